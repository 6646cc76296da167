#!/bin/sh
# A small test run: each line is one case.
. ./words.sh
total=0 failed=0
green=$(printf '\033[32m') red=$(printf '\033[31m') plain=$(printf '\033[0m')

expect() { # line, words, text
    total=$((total + 1))
    got=$(count_words "$3")
    if [ "$got" = "$2" ]; then
        echo "${green}ok${plain}   $total  \"$3\" has $2"
    else
        failed=$((failed + 1))
        echo "${red}words_test.sh:$1: expected $2, got $got${plain}"
    fi
    sleep 0.05
}

expect 19 0 ""
expect 20 1 "one"
expect 21 2 "one two"
expect 22 3 "one two three"
expect 23 3 "  one two three"
expect 24 3 "one two three  "
expect 25 3 "one   two   three"
expect 26 1 "*"
expect 27 2 "a *"
expect 28 1 "it's"
expect 29 2 "semi; colon"
expect 30 2 '$HOME $PATH'
expect 31 4 "and a last one"
expect 32 5 "no this is the last"

if [ $failed -gt 0 ]; then
    echo "${red}$failed of $total failed${plain}"
    exit 1
fi
echo "${green}ok $total of $total${plain}"
