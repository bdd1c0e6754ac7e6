# One round of a small pipeline workload: eight processes over the file "input" in the current directory.
# Only simple commands, pipes and redirections: busybox sh, dash, bash and fish all take it. Repeat the text for more.
sort -n input > sorted
od -b sorted | sort -r > octal
grep the sorted | tee matches | wc
wc -l < octal
rm sorted octal matches
