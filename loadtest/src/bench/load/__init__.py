"""The storefront under load: `make load`. Users are k6's, by the scripts in `loadtest/k6`.

plan      which script, how many users, which thresholds
k6        finds k6 or builds it, and runs a script
series    k6's record and summary of a run  ->  figures over time, by route, and thresholds
watch     meanwhile: processors and memory of every process, lag of every group
scarce    what a crowd wants: one product with few units, one campaign with few coupons
judging   afterwards: the system at rest, its invariants, what the crowd really got
run       all of it, on a stack of its own or one that runs  ->  record
report    record  ->  terminal and page, with `plots`
"""
