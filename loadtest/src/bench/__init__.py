"""How fast the system is, beside what its machine does in the same run: `make bench`.

    machine   the two yardsticks: pgbench on the stack's own Postgres, and a loop in Python
    phases    backlogs that are drained, and orders that arrive at a fixed rate
    stage     a stack of its own for a run
    run       all of it in rounds, on a stack of its own  ->  record (the raw figures, as JSON)
    figures   record  ->  medians, spreads, ratios to the yardsticks
    compare   two records  ->  what changed by more than both spreads
    page      record  ->  one page with plots
    measuring    what every run does around its rounds, and what runs of one service share
    differences  two ways side by side  ->  better, worse, or no difference seen
    strategies   stock's strategies side by side, of the same pieces: `make bench-stock`
    campaigns    the kinds of campaign side by side, as well: `make bench-coupon`
    load         the storefront under load by k6: `make load`
    settings     why settings have their defaults, beside other values
    bottlenecks  settings of before beside those of now, under load: `make bench-bottlenecks`

What makes a figure honest: phases are repeated in rounds, so that a machine that drifts moves all
of them; latency counts from the moment an order was to be placed, whether or not it could be; the
window of a figure is the broker's time, read afterwards; a spread is a 95 % interval.
"""
