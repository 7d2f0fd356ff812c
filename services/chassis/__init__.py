"""What every service is mounted on; knows no service and no message of ours.

    process → telemetry → Database, Verifier → Server(layers) ← servicers
                                    └ lead → Loops

`server` serves, through the layers in `layers/`, one concern a file; `errors` is
the catalogue of every refusal; `database` speaks to PostgreSQL over `pool` and
`listener`; `auth` and `keys` say who calls; `leader` and `loops` work in the
background; `config`, `clock`, `vault`, `pages`, `channel` are what their names say.
"""
