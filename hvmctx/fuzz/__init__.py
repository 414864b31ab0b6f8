"""Fuzz-testing restore bounds: inputs that sit on every bound (`contexts`, `vmport`,
`streams`, each made with a `random.Random`), hypothesis strategies over them
(`strategies`), targets with the library's invariants (`targets`), campaigns, comparison with
other loaders (`differential`), and files for a hypervisor's test lab (`generate`)."""
