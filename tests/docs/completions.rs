//! etc/completions: made from the tables of commands and options.

use std::fmt::Write;

use picored::cli::OPTIONS;
use picored::cli::usage::{COMMANDS, Help};
use picored::delivery::{EventKind, MemberEvent};

use crate::facts::{is_up_to_date, reads};

/// What may stand in a place of the command line.
#[derive(Clone, Copy, PartialEq)]
enum What {
    /// A name that the daemon knows.
    Members,
    Apps,
    Handlers,
    /// One of these words.
    Words(&'static str),
    Events,
    Files,
    /// Nobody can guess it.
    Anything,
}

const LEVELS: &str = "off error warn info debug trace";
const TIMES: &str = "15m 1h 8h 1d";

/// What the arguments of a command are, in their order, as its help names them.
fn places(help: &Help) -> Vec<What> {
    let mut places = Vec::new();
    let mut rest = help.arguments;
    while let Some(word) = rest.split(' ').next().filter(|word| !word.is_empty()) {
        if word.starts_with("[-") || word == "[...]" {
            rest = rest.split_once(']').map_or("", |(_, rest)| rest).trim_start();
            continue;
        }
        places.push(match (help.name, word.trim_matches(['[', ']', '.'])) {
            (_, "NODE") => What::Members,
            (_, "APP") => What::Apps,
            (_, "HANDLER") | ("test-handler", "NAME") => What::Handlers,
            (_, "up|down|auto") => What::Words("up down auto"),
            (_, "on|off") => What::Words("on off"),
            (_, "LEVEL") => What::Words(LEVELS),
            (_, "ADDR") => What::Anything,
            (name, word) => panic!("{name} {word}: say here how that is completed"),
        });
        rest = rest.get(word.len()..).unwrap_or("").trim_start();
    }
    places
}

/// What the value of an option is; `None`: it has none.
fn value(command: &str, long: &str, has_value: bool) -> Option<What> {
    has_value.then(|| match (command, long) {
        ("init", _) | (_, "lines" | "reason" | "from-raw") => What::Anything,
        (_, "node") => What::Members,
        (_, "app") => What::Apps,
        (_, "event") => What::Events,
        (_, "for") => What::Words(TIMES),
        (command, long) => panic!("{command} --{long}: say here how its value is completed"),
    })
}

fn events() -> String {
    let events = EventKind::ALL.map(EventKind::as_str);
    events.join(" ")
}

/// An option as it is typed, what its value is, and what it does, in short.
struct Option_ {
    typed: Vec<String>,
    value: Option<What>,
    said: String,
}

fn global() -> Vec<Option_> {
    let option = |typed: &[&str], value, said: &str| Option_ {
        typed: typed.iter().map(|&typed| typed.to_owned()).collect(),
        value,
        said: said.into(),
    };
    vec![
        option(&["-c", "--config"], Some(What::Files), "the configuration"),
        option(&["--socket"], Some(What::Files), "the control socket"),
        option(&["-h", "--help"], None, "help"),
        option(&["-V", "--version"], None, "the version"),
    ]
}

fn of(help: &Help) -> Vec<Option_> {
    let mut all = Vec::new();
    for (_, long, short, has_value) in OPTIONS.iter().filter(|(command, ..)| *command == help.name) {
        let mut typed: Vec<String> = short.iter().map(|short| format!("-{short}")).collect();
        typed.push(format!("--{long}"));
        // The help says it in a line that begins with the option; where it has none, its name must do.
        let line = help
            .text
            .lines()
            .find(|line| typed.iter().any(|typed| line.trim_start().starts_with(typed.as_str())));
        let said =
            line.and_then(|line| line.trim_start().split_once("  ")).map_or(*long, |(_, said)| said.trim());
        let said = said.split([';', ':', '(']).next().unwrap_or(long).trim();
        all.push(Option_ { typed, value: value(help.name, long, *has_value), said: said.into() });
    }
    if reads(help.name) {
        all.push(Option_ { typed: vec!["--json".into()], value: None, said: "the answer as JSON".into() });
    }
    all
}

const MADE: &str = "Made by tests/docs from the tables of the program: UPDATE=1 cargo test --test docs";

/// What `compgen -W` or its like is given, in bash.
fn in_bash(what: What) -> String {
    match what {
        What::Members => "$(_picored_names members)".into(),
        What::Apps => "$(_picored_names apps)".into(),
        What::Handlers => "$(_picored_names handlers)".into(),
        What::Events => events(),
        What::Words(words) => words.into(),
        What::Files | What::Anything => String::new(),
    }
}

fn bash() -> String {
    let names: Vec<&str> = COMMANDS.iter().map(|help| help.name).collect();
    let typed =
        |options: &[Option_]| options.iter().flat_map(|option| option.typed.clone()).collect::<Vec<_>>();
    let mut with_value: Vec<String> = Vec::new();
    let (mut values, mut options, mut places_of) = (String::new(), String::new(), String::new());
    for help in &COMMANDS {
        let own = of(help);
        for option in own.iter().filter(|option| option.value.is_some()) {
            with_value.extend(option.typed.clone());
            let words = in_bash(option.value.expect("filtered"));
            if !words.is_empty() {
                let cases: Vec<_> =
                    option.typed.iter().map(|typed| format!("{}:{typed}", help.name)).collect();
                let _ = writeln!(values, "    {}) all=\"{words}\" ;;", cases.join(" | "));
            }
        }
        if !own.is_empty() {
            let _ = writeln!(options, "        {}) all=\"{} $global\" ;;", help.name, typed(&own).join(" "));
        }
        for (i, what) in places(help).into_iter().enumerate().filter(|(_, what)| !in_bash(*what).is_empty()) {
            let _ = writeln!(places_of, "        {}:{}) all=\"{}\" ;;", help.name, i + 1, in_bash(what));
        }
    }
    with_value.sort();
    with_value.dedup();
    BASH.replace("@MADE@", MADE)
        .replace("@COMMANDS@", &names.join(" "))
        .replace("@GLOBAL@", &typed(&global()).join(" "))
        .replace("@WITH_VALUE@", &with_value.join(" | "))
        .replace("@VALUES@", values.trim_end())
        .replace("@OPTIONS@", options.trim_end())
        .replace("@PLACES@", places_of.trim_end())
}

const BASH: &str = r#"# shellcheck shell=bash
# bash completion of picored. @MADE@

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
    local global="@GLOBAL@"
    local -a to=() words=()
    while ((i < COMP_CWORD)); do
        word=${COMP_WORDS[i]}
        ((i += 1))
        case $word in
        -c | --config | --socket | @WITH_VALUE@)
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
@VALUES@
    esac
    if [[ -z $option && $cur == -* ]]; then
        case ${words[0]-} in
@OPTIONS@
        *) all=$global ;;
        esac
    elif [[ -z $option ]]; then
        case ${words[0]-}:${#words[@]} in
        :0 | help:1) all="@COMMANDS@ help" ;;
@PLACES@
        esac
    fi
    mapfile -t COMPREPLY < <(compgen -W "$all" -- "$cur")
}
complete -F _picored picored
"#;

fn in_zsh(what: What) -> String {
    match what {
        What::Members => "member:_picored_names members".into(),
        What::Apps => "application:_picored_names apps".into(),
        What::Handlers => "handler:_picored_names handlers".into(),
        What::Events => format!("event:({})", events()),
        What::Words(words) => format!("word:({words})"),
        What::Files => "file:_files".into(),
        What::Anything => "value:".into(),
    }
}

/// One argument of `_arguments`.
fn zsh_option(option: &Option_) -> String {
    let said = option.said.replace(['[', ']'], "").replace('\'', r"'\''");
    let value = option.value.map_or(String::new(), |what| format!(":{}", in_zsh(what)));
    // With a value: `--for=1h` and `--for 1h`, `-n5` and `-n 5`.
    let suffixed = |typed: &String| match (option.value, typed.starts_with("--")) {
        (None, _) => typed.clone(),
        (Some(_), true) => format!("{typed}="),
        (Some(_), false) => format!("{typed}+"),
    };
    let typed: Vec<String> = option.typed.iter().map(suffixed).collect();
    match typed.as_slice() {
        [one] => format!("'{one}[{said}]{value}'"),
        several => format!("'({})'{{{}}}'[{said}]{value}'", option.typed.join(" "), several.join(",")),
    }
}

fn zsh() -> String {
    let (mut commands, mut cases) = (String::new(), String::new());
    for help in &COMMANDS {
        let _ = writeln!(
            commands,
            "        '{}:{}'",
            help.name,
            help.summary.replace('\'', r"'\''").replace(':', " -")
        );
        let mut arguments: Vec<String> = of(help).iter().map(zsh_option).collect();
        arguments.extend(
            places(help).iter().enumerate().map(|(i, what)| format!("'{}:{}'", i + 1, in_zsh(*what))),
        );
        let arguments =
            arguments.iter().map(|argument| format!(" \\\n            {argument}")).collect::<String>();
        let _ = writeln!(cases, "    {}) _arguments $global{arguments} && ret=0 ;;", help.name);
    }
    let global =
        global().iter().map(|option| format!("        {}\n", zsh_option(option))).collect::<String>();
    ZSH.replace("@MADE@", MADE)
        .replace("@GLOBAL@", global.trim_end())
        .replace("@COMMANDS@", commands.trim_end())
        .replace("@CASES@", cases.trim_end())
}

const ZSH: &str = r#"#compdef picored
# zsh completion of picored. @MADE@

# Names that the daemon knows: members, apps or handlers, behind what is for compadd. At once or not at all, and without
# a word.
_picored_names() {
    local command=status after=state option
    local -a names
    case ${@[-1]} in
    members) command=members after=address ;;
    handlers) after=app ;;
    esac
    for option in -c --config --socket; do
        [[ -n $opt_args[$option] ]] && to+=($option ${(Q)~opt_args[$option]})
    done
    names=(${(fu)"$(timeout 1 $program $to $command --json 2>/dev/null </dev/null |
        grep -o "{\"name\":\"[^\"]*\",\"$after\":" | cut -d '"' -f 4)"})
    compadd "${@[1,-2]}" -a names
}

_picored_commands() {
    local -a all=(
@COMMANDS@
        'help:of a command'
    )
    _describe command all
}

_picored() {
    local curcontext=$curcontext state ret=1 program=${(Q)~words[1]} option
    local -a line to global typed=("${words[@]}")
    local -A opt_args
    local -i at=$CURRENT first=2
    global=(
@GLOBAL@
    )
    _arguments -C $global '1:command:_picored_commands' '*::argument:->arguments' && ret=0
    [[ $state == arguments ]] || return ret
    for option in -c --config --socket; do
        [[ -n $opt_args[$option] ]] && to+=($option ${(Q)~opt_args[$option]})
    done
    # From the command on: what `_arguments` leaves in `words` depends on where options stand.
    while [[ $typed[first] == -* ]]; do
        [[ $typed[first] == (-c|--config|--socket) ]] && (( first += 1 ))
        (( first += 1 ))
    done
    words=("${(@)typed[first,-1]}")
    (( CURRENT = at - first + 1 ))
    case $words[1] in
@CASES@
    help) _arguments '1:command:_picored_commands' && ret=0 ;;
    esac
    return ret
}

_picored "$@"
"#;

#[test]
fn the_completions_are_what_the_code_says() {
    is_up_to_date("etc/completions/picored.bash", &bash());
    is_up_to_date("etc/completions/_picored", &zsh());
}

#[test]
fn all_levels_and_events_are_completed() {
    let levels = picored::config::schema::LOG.iter().find(|key| key.name == "level").expect("a level");
    let picored::config::section::Type::Word(words) = levels.of else { panic!("words") };
    assert_eq!(words.join(" "), LEVELS);
    // A person rehearses a handler with these; those of Serf come with its own members.
    assert_eq!(EventKind::ALL.len() + MemberEvent::ALL.len(), 14);
}
