"""The five kinds of campaign side by side, in a rush for coupons: `make bench-coupon`.

plan      sizes, and the situations: all requests on one partition, or over all of them
crowd     the campaigns, and who asks them for coupons
rush      one rush: asked, answered, drawn, and read afterwards from the broker
fairness  who came before whom, and who got a coupon all the same
run       every kind in every situation once a round, on a stack of its own  ->  record
figures   record  ->  medians, spreads, ratios to the yardsticks
advice    record  ->  what each kind is for, in a sentence
report    record  ->  tables in the terminal, and a page with plots
"""
