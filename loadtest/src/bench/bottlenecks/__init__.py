"""What bounds the storefront, and what was done about it: `make bench-bottlenecks`.

pairs     a value of before beside the one that is the default now, as data
services  the services start anew with a value, or with a second instance
run       each pair in turns on one stack, under the journey by k6  ->  record
figures   record  ->  before, now, and the ratio, with their spreads
report    figures  ->  a table for each pair
"""
