# shellcheck shell=bash
# bash completion of picored. Made by tests/docs from the tables of the program: UPDATE=1 cargo test --test docs

# Names that the daemon knows: members, apps or handlers. At once or not at all, and without a word.
_picored_names() {
    local command=status after=state
    case $1 in
    members) command=members after=address ;;
    handlers) after=app ;;
    esac
    timeout 1 "${COMP_WORDS[0]}" "${to[@]}" "$command" --json 2>/dev/null </dev/null |
        grep -o "{\"name\":\"[^\"]*\",\"$after\":" | cut -d '"' -f 4 | sort -u
}

_picored() {
    local cur=${COMP_WORDS[COMP_CWORD]} option='' word all='' i=1
    local global="-c --config --socket -h --help -V --version"
    local -a to=() words=()
    while ((i < COMP_CWORD)); do
        word=${COMP_WORDS[i]}
        ((i += 1))
        case $word in
        -c | --config | --socket | --app | --event | --for | --from-raw | --join | --lines | --node | --reason | -n)
            # --config=FILE comes as three words.
            [[ ${COMP_WORDS[i]} == = ]] && ((i += 1))
            option=$word
            ((i >= COMP_CWORD)) && break
            case $word in
            -c | --config | --socket) to+=("$word" "${COMP_WORDS[i]/#\~/$HOME}") ;;
            esac
            option=''
            ((i += 1))
            ;;
        -*) ;;
        *) words+=("$word") ;;
        esac
    done
    [[ $cur == = ]] && cur=''
    COMPREPLY=()

    case ${words[0]-}:$option in
    *:) ;;
    *:-c | *:--config | *:--socket)
        compopt -o filenames 2>/dev/null
        mapfile -t COMPREPLY < <(compgen -f -- "$cur")
        return
        ;;
    app:--for) all="15m 1h 8h 1d" ;;
    maint:--app) all="$(_picored_names apps)" ;;
    maint:--node) all="$(_picored_names members)" ;;
    maint:--for) all="15m 1h 8h 1d" ;;
    test-handler:--event) all="app-up app-down app-maint node-joined node-failed node-left node-address quorum no-quorum" ;;
    test-handler:--app) all="$(_picored_names apps)" ;;
    test-handler:--node) all="$(_picored_names members)" ;;
    esac
    if [[ -z $option && $cur == -* ]]; then
        case ${words[0]-} in
        run) all="--cron $global" ;;
        init) all="--node --join $global" ;;
        check-config) all="--show $global" ;;
        status) all="-v --verbose --json $global" ;;
        members) all="--json $global" ;;
        events) all="-f --follow -n --lines --json $global" ;;
        ping) all="--json $global" ;;
        why) all="--json $global" ;;
        app) all="--for $global" ;;
        maint) all="--app --node --for --reason $global" ;;
        sync) all="--dry-run --force --json $global" ;;
        test-handler) all="--event --app --node --json $global" ;;
        keygen) all="--from-raw $global" ;;
        *) all=$global ;;
        esac
    elif [[ -z $option ]]; then
        case ${words[0]-}:${#words[@]} in
        :0 | help:1) all="run init check-config status members events ping join forget why app maint sync test-handler leave stop restart reload log-level keygen help" ;;
        ping:1) all="$(_picored_names members)" ;;
        forget:1) all="$(_picored_names members)" ;;
        why:1) all="$(_picored_names apps)" ;;
        app:1) all="$(_picored_names apps)" ;;
        app:2) all="up down auto" ;;
        maint:1) all="on off" ;;
        sync:1) all="$(_picored_names handlers)" ;;
        test-handler:1) all="$(_picored_names handlers)" ;;
        log-level:1) all="off error warn info debug trace" ;;
        esac
    fi
    mapfile -t COMPREPLY < <(compgen -W "$all" -- "$cur")
}
complete -F _picored picored
