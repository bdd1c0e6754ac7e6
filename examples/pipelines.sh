#!/bin/sh
# Many short processes, as a shell script makes them: each round sorts a file, dumps it in octal, filters, copies,
# counts and removes, through pipes and redirections. One round starts eight processes; 100 rounds make 800.
#
# Usage: pipelines.sh [ROUNDS]      It works in a fresh directory under /tmp and removes it.

set -eu
rounds=${1:-100}
work=/tmp/pipelines.$$
mkdir "$work"
cd "$work"
trap 'cd /; rm -rf "$work"' EXIT

# 400 lines of text in no order, made without starting a process.
n=1
while [ "$n" -le 400 ]; do
    n=$((n + 1))
    value=$((n * 7919 % 4001))
    case $((value % 5)) in
        0) word=apple ;; 1) word=pear ;; 2) word=plum ;; 3) word=quince ;; *) word=the ;;
    esac
    echo "$value $word in line $n"
done > input

round=0
while [ "$round" -lt "$rounds" ]; do
    round=$((round + 1))
    sort -n input > sorted                                  # 1
    od -b sorted | sort -r > octal                          # 2, 3
    grep the sorted | tee matches | wc > counts             # 4, 5, 6
    wc -l < octal > lines                                   # 7
    read -r matched _ < counts
    read -r dumped < lines
    rm sorted octal matches counts lines                    # 8
    if [ $((round % 25)) -eq 0 ] || [ "$round" -eq "$rounds" ]; then
        echo "round $round: $matched lines match, $dumped lines of octal"
    fi
done
echo "done: $rounds rounds, $((rounds * 8)) processes"
