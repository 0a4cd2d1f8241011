"""The message contracts: models by owner, the registry of topics, and how values are read.

`base` and the models say what a message is, `topics` where it lies, `reading` how bytes become
one or a reason why not. `generate` writes JSON Schemas and AsyncAPI into `docs/contracts/`,
`compatibility` holds them against the last release. Services import the modules, not this
package's top.
"""
