"""Stock's strategies side by side, over contention: `make bench-stock`.

plan      sizes, and the cases: how orders meet on products, and whether there are units enough
shop      the products of all cells, and the orders for them
tally     what the instances of stock count of themselves
run       every cell once a round, on a stack of its own  ->  record
figures   record  ->  medians, spreads, ratios to the yardsticks
advice    record  ->  what to choose when, in a sentence
report    record  ->  a table in the terminal, and a page with plots
"""
