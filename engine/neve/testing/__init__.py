"""The public test kit: what neve's own suites are built on, for those who write a store, a client or another engine.

store_contract  one pytest class that every object store must pass; a new store is a subclass with one fixture
objects         the content of a store as a plain value machine, and an in-memory store over it
faults          what can befall a request, seeded or scripted, and a store decorator that makes it happen
clock           a runtime whose time is moved by hand
simulation      many processes on one scheduler in virtual time, with faults; needs `greenlet`
reference       an exact vector index in a dict: the oracle
lambda_runtime  a stand-in for AWS Lambda: the Runtime API that a function's process asks for events
strategies      Hypothesis strategies for vectors, keys, metadata and filters; needs `hypothesis`
"""
