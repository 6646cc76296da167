# Counts the words of its first argument.
count_words() {
    set -f
    set -- $1
    echo $#
}
