#!/bin/sh
# Prints a tick each second.
tick=0
while :; do
    tick=$((tick + 1))
    echo "tick $tick"
    sleep 1
done
