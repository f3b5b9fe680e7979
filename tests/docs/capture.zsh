# For tests/docs/shells.rs, in an interactive zsh: a tab prints what would be offered, a word a line, and ends it.
autoload -U compinit
compinit -u -D
setopt no_list_beep
zstyle ':completion:*' insert-tab false
zstyle ':completion:*' list-grouped false
bindkey '^I' complete-word

compprefuncs=(before)
before() { print; print -r -- 'THE BEGINNING' }
comppostfuncs=(after)
after() { print -r -- 'THE END'; exit }

compadd() {
    # With these it only fills or filters an array.
    if [[ ${@[1,(i)(-|--)]} == *-(O|A|D)\ * ]]; then
        builtin compadd "$@"
        return
    fi
    local -a hits
    builtin compadd -A hits "$@"
    (( $#hits )) && print -rl -- $hits
    builtin compadd "$@"
}
print READ''Y
