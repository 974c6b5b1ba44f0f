#!/bin/sh
# Greets GREETINGS times, a second apart, and then fails, as programs do.
count=0
while [ "$count" -lt "${GREETINGS:-7}" ]; do
    count=$((count + 1))
    echo "$(cat build/greeting), greeting $count of ${GREETINGS:-7}"
    sleep 1
done
echo "greeter: out of greetings, giving up" >&2
exit 1
