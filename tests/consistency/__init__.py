"""A judge of histories: many clients, real servers, faults; was every answer allowed?

`history` is what is noted of each operation, `checking` decides whether a history is allowed.
`application` is what the servers run, `places` are the stores and `world` the servers, with what
can befall either; `balancer` stands between servers and `clients`; `running` puts all of it
together. `controls` are broken variants of the product, which must be caught.
"""
