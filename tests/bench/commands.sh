#!/bin/sh
# Median wall time of `envctl --version` and of `envctl ps` on a warm daemon, 20 runs each, in a session of its own.
# usage: commands.sh PATH-TO-ENVCTL
set -eu
envctl=$(realpath "$1")
quickstart=$(realpath "$(dirname "$0")/../../examples/quickstart")
root=$(mktemp -d /tmp/evbench.XXXXXX)
mkdir -m 700 "$root/run" "$root/home"
cp -r "$quickstart" "$root/quickstart"
cd "$root/quickstart"
export HOME="$root/home" XDG_RUNTIME_DIR="$root/run" XDG_STATE_HOME="$root/state" XDG_CONFIG_HOME="$root/config"
finish() {
    "$envctl" daemon stop >/dev/null 2>&1 || true
    # The last derived files may be on their way still.
    rm -rf "$root" 2>/dev/null || { sleep 1 && rm -rf "$root"; }
}
trap finish EXIT

median() {
    name=$1
    shift
    for _ in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20; do
        before=$(date +%s%N)
        "$@" >/dev/null
        after=$(date +%s%N)
        echo $(((after - before) / 1000))
    done | sort -n | awk -v name="$name" '{ v[NR] = $1 } END { printf "%-10s median %d us, slowest %d us\n", name, v[int((NR + 1) / 2)], v[NR] }'
}

median nothing /bin/true
median version "$envctl" --version
"$envctl" up -d --wait >/dev/null 2>&1
median ps "$envctl" ps
"$envctl" down >/dev/null 2>&1
