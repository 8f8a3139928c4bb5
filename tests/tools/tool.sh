# The ashlar program: commands, statuses, mistakes.
. "$top_srcdir/tests/tap.sh"
ashlar=$top_builddir/ashlar

"$ashlar" run -- sh -c 'exit 7'
is $? 7 "run: the exit status is the program's"
"$ashlar" run -- sh -c 'kill -TERM $$'
is $? 143 "run: so is the signal"
is "$("$ashlar" run --grain=16 --stats -- ls -d / 2>&1 | grep -c 'ashlar: statistics of process')" 1 "run --stats"
is "$("$ashlar" run --stats=json:"$scratch/s.json" -- ls -d / ; grep -c totals "$scratch/s.json")" "/
1" "run --stats=json:PATH"
is "$("$ashlar" run --grian=16 -- true 2>&1)" \
    "ashlar: run: option '--grian=16' is not known or lacks its value; see \`ashlar run --help\`" "run: an unknown option"
"$ashlar" run -- /nonexistent 2>/dev/null
is $? 127 "run: a program that is not there"
"$ashlar" nonsense 2>/dev/null
is $? 2 "an unknown command"
missing=$(sed -n 's/^OPTION(\([A-Z_]*\),.*/ASHLAR_\1=/p' "$top_srcdir/src/info/options.def" | while read -r name; do
    "$ashlar" options | grep -q "^$name" || echo "$name"
done)
is "$missing" "" "options: every option is listed"
is "$("$ashlar" options | awk 'length > 100')" "" "options: fits a terminal"
for command in --help --version options "completion bash" "doctor ls"; do
    # shellcheck disable=SC2086 # words
    is "$("$ashlar" $command 2>&1 >/dev/full) $?" "ashlar: the output cannot be written 1" "$command: a full device"
done
tap_done
