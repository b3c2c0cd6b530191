"""The real parts that tests and benchmarks start, one a module, and the clients that talk to them."""
