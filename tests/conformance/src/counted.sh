#!/bin/sh
# counted.sh SECONDS STRESS-NG ARG...: runs stress-ng in the enclave for some seconds, which fills what is only kept because it
# may be of use again, then for SECONDS, and compares what /proc/occlum counts. Says "leak: ..." and ends with 9 when
# slots, shared pages, processes, tasks or open files stay more than before, or memory by more than a mebibyte.
seconds=$1
shift

count() {
    while read -r key value; do
        case $key in
        slots | shared_pages | processes | tasks | open_files) echo "$key=$value" ;;
        taken_kb | heap_kb) echo "${key%_kb}_mib=$((value / 1024))" ;;
        esac
    done </proc/occlum
}

# Prints what is more in the second list than in the first.
leaks() {
    for was in $1; do
        for is in $2; do
            case $was in *_mib=*) slack=1 ;; *) slack=0 ;; esac
            if [ "${was%=*}" = "${is%=*}" ] && [ "${is#*=}" -gt "$((${was#*=} + slack))" ]; then
                echo "leak: $was before, $is after"
            fi
        done
    done
}

"$@" --timeout 4 || exit
sleep 1
before=$(count)
"$@" --timeout "$seconds" || exit
# Orphans may still be dying.
for _ in 1 2 3 4 5 6 7 8 9 10; do
    after=$(count)
    found=$(leaks "$before" "$after")
    [ -z "$found" ] && exit 0
    sleep 0.5
done
echo "$found"
exit 9
