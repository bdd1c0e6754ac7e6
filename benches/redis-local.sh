#!/bin/sh
# redis-server and redis-benchmark side by side, over 127.0.0.1: nanoseconds for each request.
# Usage: redis-local.sh PORT
redis-server --port "$1" --save '' >/dev/null &
server=$!
until redis-cli -p "$1" ping >/dev/null 2>&1; do sleep 0.05; done
for depth in 1 16; do
    redis-benchmark -p "$1" -t set,get -n $((20000 * (depth + 4))) -c 50 -P $depth -q 2>/dev/null | tr '\r' '\n' |
        awk -v d=$depth '/requests per second/ { printf "redis-inside-%s-%s %.1f\n", tolower(substr($1, 1, 3)), d, 1e9 / $2 }'
done
kill $server
wait $server
