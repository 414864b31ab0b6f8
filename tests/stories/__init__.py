"""One story for each kind of user: operator, hypervisor developer, researcher."""
