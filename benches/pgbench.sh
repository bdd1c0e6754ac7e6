#!/bin/bash
# pgbench.sh PGBENCH PORT: select-only transactions of 4 clients, as soon as the server takes connections: its port opens
# before that.
set -euo pipefail
until "${1%/*}/pg_isready" -q -h 127.0.0.1 -p "$2"; do sleep 0.1; done
exec "$1" -h 127.0.0.1 -p "$2" -U postgres -S -c 4 -j 2 -T 10 postgres
