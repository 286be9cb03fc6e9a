# Builds the C library without Python, for scripts that run it by itself; to be sourced in the root of the checkout.

# compile_library FOLDER LEVELS COMPILER FLAG...: the objects of the library with these levels go to FOLDER
compile_library() {
    local folder=$1 levels=$2 source level bits line vectors tiles needs
    shift 2
    {
        for source in csrc/run/*.c; do
            printf '%q ' "$@" -c "$source" -o "$folder/$(basename "$source" .c).o" && echo
        done
        for level in $levels; do
            line=$(tr -d '\n' <csrc/levels.def | grep -oE "LEVEL\($level, \w+, \w+, \w+, *\"[^\"]*\"")
            vectors=$(cut -d, -f2 <<<"$line" | tr -d ' ') tiles=$(cut -d, -f3 <<<"$line" | tr -d ' ')
            needs=$(cut -d'"' -f2 <<<"$line")
            [ "$tiles" = none ] || {
                printf '%q ' "$@" "-DFA_LEVEL=$level" "-DFA_VEC_FILE=\"$vectors.h\"" "-DFA_TILE_FILE=\"../tile/$tiles.h\"" \
                    ${needs:+"-DFA_NEEDS=\"$needs\""} -c csrc/levels/tiles.c -o "$folder/${level}_tiles.o" && echo
            }
            [ "$vectors" = "$level" ] || continue
            for bits in 32 64; do
                printf '%q ' "$@" "-DFA_LEVEL=$level" "-DFA_VEC_FILE=\"$vectors.h\"" "-DFA_BITS=$bits" \
                    ${needs:+"-DFA_NEEDS=\"$needs\""} -c csrc/levels/level.c -o "$folder/${level}_f$bits.o" && echo
            done
        done
    } | xargs -P "$(nproc)" -d '\n' -I '{}' bash -c '{}'
}
