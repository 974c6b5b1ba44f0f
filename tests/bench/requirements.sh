#!/bin/sh
# Wall time of `envctl up -d --wait` for one requirement on a warm daemon: cold (nothing is kept yet), a second project's first
# start, and warm (its data is there); the median of the warm ones. In a session of its own.
# usage: requirements.sh PATH-TO-ENVCTL [PRESET…]
set -eu
envctl=$(realpath "$1")
shift
[ $# -gt 0 ] || set -- postgres redis
root=$(mktemp -d /tmp/evbench.XXXXXX)
mkdir -m 700 "$root/run" "$root/home"
export HOME="$root/home" XDG_RUNTIME_DIR="$root/run" XDG_STATE_HOME="$root/state" XDG_CONFIG_HOME="$root/config" XDG_CACHE_HOME="$root/cache"
finish() {
    "$envctl" daemon stop >/dev/null 2>&1 || true
    # The last derived files may be on their way still.
    rm -rf "$root" 2>/dev/null || { sleep 1 && rm -rf "$root"; }
}
trap finish EXIT

project() {
    mkdir -p "$root/$1"
    printf 'name = "%s"\n[requirements.%s]\n' "$1" "$2" >"$root/$1/envctl.toml"
}

# Milliseconds until the requirement is ready.
up() {
    before=$(date +%s%N)
    "$envctl" -C "$root/$1" up -d --wait --wait-timeout 120s >/dev/null 2>&1
    after=$(date +%s%N)
    "$envctl" -C "$root/$1" down >/dev/null 2>&1
    echo $(((after - before) / 1000000))
}

# A daemon that is there already is part of every measurement.
mkdir -p "$root/idle"
printf 'name = "idle"\n[services.idle]\ncmd = ["sleep", "1000"]\n' >"$root/idle/envctl.toml"
"$envctl" -C "$root/idle" up -d --wait >/dev/null 2>&1
for preset; do
    project "$preset-1" "$preset"
    project "$preset-2" "$preset"
    cold=$(up "$preset-1")
    second=$(up "$preset-2")
    warm=$(for _ in 1 2 3 4 5 6 7 8 9; do up "$preset-1"; done | sort -n | awk '{ v[NR] = $1 } END { print v[int((NR + 1) / 2)] }')
    printf '%-10s cold %5d ms   second project %5d ms   warm %5d ms\n' "$preset" "$cold" "$second" "$warm"
done
