# shellcheck shell=sh
# scenarios.sh: for scripts that run tests with real processes and make a table of their rows. They source it from the
# top of the tree: . scripts/lib/scenarios.sh; run_tests TARGET VARIABLE ARGUMENTS, then $results and $listed are files
# with the rows and with the names of all tests that should have one.

# Of this run alone, another may be under way here.
folder=$(mktemp -d) || exit 1
trap 'rm -rf "$folder"' EXIT
trap 'exit 130' HUP INT TERM
results=$folder/results listed=$folder/listed

run_tests() { # TARGET VARIABLE ARGUMENTS
    target=$1 variable=$2
    shift 2
    : >"$results"
    export "$variable=$results"
    # They wait most of the time: far more of them at once than there are processors.
    cargo test --locked --test "$target" -- --test-threads="${THREADS:-8}" "$@"
    code=$?
    # Every test has a row, if it began at all.
    cargo test --quiet --locked --test "$target" -- --list --format terse "$@" 2>/dev/null |
        sed -n 's/: test$//p' >"$listed"
    sort -o "$results" "$results"
    return $code
}

# What awk programs begin and end with: rows are counted, those that are missing are named.
# shellcheck disable=SC2016,SC2034 # awk's own; used by those who source this
count_begin='BEGIN { FS = "\t"; while ((getline test <listed) > 0) expected[test] } { began[$1] }'
# shellcheck disable=SC2016,SC2034
count_end='END {
    for (test in expected) {
        count++
        if (!(test in began)) { missing++; names = names " " test }
    }
    printf "\n%s: %d of %d tests gave their rows, %d failed, %d are missing%s\n", title, NR, count, failed, missing,
        missing && NR ? ":" names : ""
}'
