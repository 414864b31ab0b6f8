"""A folder of plug-ins for volatility3, which reads guests with them out of their images:
`python3 -m hvmctx.volatility` prints where it is."""
