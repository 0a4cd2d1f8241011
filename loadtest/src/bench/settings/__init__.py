"""Why the defaults of some settings are what they are: each is measured beside other values.

    pools       connections of a pool, for many who want one at once
    losses      how often a question to Redis is asked again, while connections are dropped
    gateway     requests to the gateway at once, and the pause before one is made again

The pool and Redis are measured in this process, with the code that services use; the gateway with
a payment service that is started anew with each value, before a gateway that is slow or fails.
"""
