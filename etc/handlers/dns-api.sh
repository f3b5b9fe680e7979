#!/bin/sh
# dns-api.sh: what the handlers for HTTP APIs share (powerdns, cloudflare, hetzner); it must lie in their
# folder. Not a handler itself. Needs curl and ca-certificates; JSON is read by awk, so no jq.
#
# Settings that all of them have:
#   DNS_ZONE      zone                                                         required
#   DNS_NAME      name or names (separated by spaces) inside the zone          required
#   DNS_TTL       60; seconds
#   DNS_TYPES     "A AAAA"; record types that are ours. The others are never touched.
#   DNS_TIMEOUT   20; seconds for the whole run, all requests together: at the most one more passes, so the
#                 handler's timeout must be 2 s longer
#   DNS_ALLOW_EMPTY  1: an empty set deletes the records; otherwise it is refused
#
# All exit with: 0 the records are right; 75 try later (429, 5xx, a conflict, Retry-After, a timeout, no
# connection, an answer that is no JSON); 1 refused (key, permission, zone, certificate); 65 the set is empty
# or holds what is no address; 78 settings.
#
# A handler sets $me, $api (its name for people) and $advice (what to check when the key is refused), calls
# api_settings and wanted_set, and has read_records, which fills $have with lines of tab-separated
# NAME TYPE ADDRESS TTL and what else it needs to know again, the names as in $names. Where a program could
# fail (no memory, no processes), its end is looked at: a set that comes out short must never be written.

[ "${me-}" ] || { echo "dns-api.sh is read by the handlers beside it; it does nothing by itself" >&2; exit 78; }
set -u -f
LC_ALL=C
export LC_ALL
umask 077
tab=$(printf '\t')

secret= scratch=
trap '[ -z "$scratch" ] || rm -rf "$scratch"' EXIT
trap 'exit 75' HUP INT TERM

die() { # EXIT MESSAGE
    # Servers and proxies have been seen to repeat what they were sent.
    [ -z "$secret" ] || case $2 in *"$secret"*) set -- "$1" "the message is not shown, it repeats the key" ;; esac
    printf '%s handler: %s\n' "$me" "$2" >&2
    exit "$1"
}

broken() { die 75 "a program failed; is the memory or the disk full?"; }

# --- settings, all of them checked before anything is sent ----------------------------------------

number_is_within() { # VALUE LOW HIGH
    case $1 in '' | *[!0-9]* | 0?* | ???????????*) return 1 ;; esac
    [ "$1" -ge "$2" ] && [ "$1" -le "$3" ]
}
name_is_sane() { case $1 in '' | [!A-Za-z0-9_*]* | *[!A-Za-z0-9._*-]* | *..*) return 1 ;; esac; }
lower() { printf '%s\n' "$1" | tr A-Z a-z; }
# The rest of a second that has begun counts as one. Not the wall clock, which may be set.
now() { if read -r uptime _ 2>/dev/null </proc/uptime; then echo "${uptime%.*}"; else date +%s; fi; }

api_settings() { # NAME-OF-URL URL NAME-OF-SECRET SECRET
    url=${2%/} secret=
    case $url in
    https://?* | http://?*) ;;
    *) die 78 "$1 must begin with https:// or http://, not '$url'" ;;
    esac
    case ${url#*://} in
    '' | /* | *//* | *[!][A-Za-z0-9._:/~%-]*) die 78 "$1 must be the API's address without user, query or spaces, not '$url'" ;;
    esac
    [ -n "$4" ] || die 78 "$3 must be set; it belongs in env_file, not in env"
    case $4 in *[!!-~]*) die 78 "$3 holds a space, a line break or what is not ASCII" ;; esac
    secret=$4

    ttl=${DNS_TTL:-60} timeout=${DNS_TIMEOUT:-20} names= types= deadline=
    number_is_within "$ttl" 0 2147483647 || die 78 "DNS_TTL must be whole seconds, not '$ttl'"
    number_is_within "$timeout" 1 600 || die 78 "DNS_TIMEOUT must be 1 to 600 seconds, not '$timeout'"
    name_is_sane "${DNS_ZONE-}" || die 78 "DNS_ZONE must be the zone's name, not '${DNS_ZONE-}'"
    zone=$(lower "${DNS_ZONE%.}") || broken
    for name in ${DNS_NAME-}; do
        name_is_sane "$name" || die 78 "DNS_NAME: '$name' is not a host name"
        name=$(lower "${name%.}") || broken
        case .$name in
        *".$zone") ;;
        *) die 78 "DNS_NAME: '$name' is not inside DNS_ZONE '$zone'; write it in full, $name.$zone?" ;;
        esac
        case " $names " in *" $name "*) ;; *) names="$names $name" ;; esac
    done
    [ -n "$names" ] || die 78 "DNS_NAME must be the name (or names) that shall point at the servers"
    for type in ${DNS_TYPES:-A AAAA}; do
        case $type in
        A | AAAA) case " $types " in *" $type "*) ;; *) types="$types $type" ;; esac ;;
        *) die 78 "DNS_TYPES: '$type' is neither A nor AAAA" ;;
        esac
    done
    command -v curl >/dev/null || die 78 "curl is not installed (apt-get install curl ca-certificates)"
    scratch=$(mktemp -d) || die 75 "cannot make a temporary folder"
    have=$scratch/have
    deadline=$(($(now) + timeout))
}

# A key must not cross the Internet in the clear.
needs_https() { # NAME-OF-URL
    host=${url#http://} host=${host%%/*}
    case $host in
    https:* | localhost | localhost:* | "[::1]" | "[::1]":*) return ;;
    127.*) case ${host%%:*} in *[!0-9.]*) ;; *) return ;; esac ;;
    esac
    die 78 "$1 must begin with https://: the token would be readable on the way to '$url'"
}

# --- the wanted set --------------------------------------------------------------------------------

# canonical(TEXT) is "A 192.0.2.1" or "AAAA 2001:db8::1", each address in one way of writing only (RFC 5952),
# so that they can be compared; "" if it is no address.
addresses='
    function octets(text,   part, n, i) {
        n = split(text, part, ".")
        if (n != 4) return 0
        for (i = 1; i <= 4; i++)
            if (part[i] !~ /^(0|[1-9][0-9]?[0-9]?)$/ || part[i] + 0 > 255) return 0
        return 1
    }
    function groups(text, from,   part, n, i) { # into group[from + 1] and on; how many, or -9
        if (text == "") return 0
        n = split(text, part, ":")
        for (i = 1; i <= n; i++) {
            if (part[i] !~ /^[0-9a-f]+$/ || length(part[i]) > 4) return -9
            sub(/^0+/, "", part[i])
            group[from + i] = part[i] == "" ? "0" : part[i]
        }
        return n
    }
    function canonical(text,   gap, head, rest, i, run, best, at, out, byte) {
        if (text !~ /^[0-9a-fA-F.:]+$/) return ""
        if (!index(text, ":")) return octets(text) && text != "0.0.0.0" ? "A " text : ""
        text = tolower(text)
        if (index(text, ".")) { # the last 32 bits written as an IPv4 address
            rest = text; sub(/.*:/, "", rest)
            if (!octets(rest)) return ""
            split(rest, byte, ".")
            text = substr(text, 1, length(text) - length(rest)) \
                sprintf("%x:%x", byte[1] * 256 + byte[2], byte[3] * 256 + byte[4])
        }
        gap = index(text, "::")
        if (gap) {
            head = groups(substr(text, 1, gap - 1), 0)
            rest = groups(substr(text, gap + 2), 8)
            if (head < 0 || rest < 0 || head + rest > 7) return ""
            for (i = head + 1; i <= 8 - rest; i++) group[i] = "0"
            for (i = 1; i <= rest; i++) group[8 - rest + i] = group[8 + i]
        } else if (groups(text, 0) != 8) return ""
        run = 0; best = 1; at = 0 # a single 0 is not shortened
        for (i = 1; i <= 8; i++) {
            run = group[i] == "0" ? run + 1 : 0
            if (run > best) { best = run; at = i - run + 1 }
        }
        if (best == 8) return ""
        out = ""
        for (i = 1; i <= 8; i++) {
            if (i == at) { out = out "::"; i += best - 1; continue }
            out = out (out == "" || out ~ /:$/ ? "" : ":") group[i]
        }
        return "AAAA " out
    }
'

wanted_set() {
    # PICORED_UP_ADDRS holds both families; the other two are there for hands that set only one.
    wanted=$(printf '%s\n' ${PICORED_UP_ADDRS-} ${PICORED_UP_ADDRS4-} ${PICORED_UP_ADDRS6-} | awk "$addresses"'
        $0 == "" { next }
        { it = canonical($0); if (it == "") { print "not an address: " $0; exit 3 }; print it }')
    case $? in
    0) ;;
    3) die 65 "refused, nothing was sent: $(printf '%s\n' "$wanted" | tail -n 1)" ;;
    *) broken ;;
    esac
    wanted=$(printf '%s\n' "$wanted" | sort -u) || broken
    wanted_A= wanted_AAAA=
    while read -r type address; do
        case "$types " in *" $type "*) ;; *) continue ;; esac
        case $type in
        A) wanted_A="$wanted_A$address " ;;
        AAAA) wanted_AAAA="$wanted_AAAA$address " ;;
        esac
    done <<END
$wanted
END
    [ -n "$wanted_A$wanted_AAAA" ] || [ "${DNS_ALLOW_EMPTY-}" = 1 ] ||
        die 65 "refused: no address to publish for$names (types$types). DNS_ALLOW_EMPTY=1 would delete the records"
}
# Sets $want to the addresses of TYPE, each followed by a space. A variable, without a program that could fail:
# what comes out empty here deletes records.
want() { # TYPE
    case $1 in A) want=$wanted_A ;; AAAA) want=$wanted_AAAA ;; esac
}

# --- JSON ------------------------------------------------------------------------------------------

# JSON (RFC 8259) on stdin to lines of PATH, literal and text, separated by tabs; PATH as in RFC 6901
# (/result/0/name). The literal is what stood there, to be sent again as it is; the text is without quotes and
# escapes, but for those of control characters and of what is not ASCII, which stay: no name or address has
# them. Status 1 for what is no JSON or does not end. Read comma by comma: in one piece it would take busybox
# quadratic time.
json() {
    { cat && echo; } | awk '
    BEGIN { RS = ","; state = "value" }
    NR > 1 { feed(",") }
    { feed($0) }
    END { exit failed || state != "end" }

    function fail() { failed = 1; exit 1 }
    function feed(text,   c) {
        while (text != "") {
            if (inside) { text = string(text); continue }
            sub(/^[ \t\r\n]+/, "", text)
            c = substr(text, 1, 1)
            if (c == "") return
            if (index("{}[]:,", c)) { mark(c); text = substr(text, 2) }
            else if (c == "\"") { inside = 1; literal = c; text = substr(text, 2) }
            else if (match(text, /^[-+.0-9A-Za-z]+/)) {
                literal = substr(text, 1, RLENGTH)
                if (literal !~ /^(true|false|null|-?(0|[1-9][0-9]*)(\.[0-9]+)?([eE][-+]?[0-9]+)?)$/) fail()
                text = substr(text, RLENGTH + 1)
                scalar(literal, literal)
            } else fail()
        }
    }
    function string(text,   at, c) { # takes the rest of a string off `text`, or all there is of it
        while (match(text, /["\\]/)) {
            at = RSTART
            if (substr(text, at, 1) == "\"") {
                literal = literal substr(text, 1, at)
                if (literal ~ /[\001-\037]/) fail()
                inside = 0
                if (state == "key" || state == "first key") {
                    key[depth] = plain(literal)
                    gsub(/~/, "~0", key[depth]); gsub("/", "~1", key[depth])
                    state = "colon"
                } else scalar(literal, plain(literal))
                return substr(text, at + 1)
            }
            c = substr(text, at + 1, 1)
            if (c == "u") {
                if (substr(text, at + 2, 4) !~ /^[0-9a-fA-F][0-9a-fA-F][0-9a-fA-F][0-9a-fA-F]$/) fail()
            } else if (c == "" || !index("\"\\/bfnrt", c)) fail()
            literal = literal substr(text, 1, at + 1)
            text = substr(text, at + 2)
        }
        literal = literal text
        return ""
    }
    function plain(literal,   out, at, c, code) {
        literal = substr(literal, 2, length(literal) - 2)
        while ((at = index(literal, "\\"))) {
            out = out substr(literal, 1, at - 1)
            c = substr(literal, at + 1, 1)
            literal = substr(literal, at + 2)
            if (c == "u") {
                code = 16 * hex(substr(literal, 3, 1)) + hex(substr(literal, 4, 1))
                if (substr(literal, 1, 2) == "00" && code >= 32 && code < 127) {
                    out = out sprintf("%c", code)
                    literal = substr(literal, 5)
                } else out = out "\\u"
            } else out = out (index("bfnrt", c) ? "\\" : "") c
        }
        return out literal
    }
    function hex(digit) { return index("0123456789abcdef", tolower(digit)) - 1 }
    function place() { # where the value that begins here is
        if (state != "value" && state != "first value") fail()
        if (!depth) return ""
        return base[depth] "/" (kind[depth] == "[" ? count[depth]++ : key[depth])
    }
    function scalar(literal, text) {
        printf "%s\t%s\t%s\n", place(), literal, text
        state = depth ? "next" : "end"
    }
    function mark(c,   here) {
        if (c == "{" || c == "[") {
            here = place()
            printf "%s\t%s\t%s\n", here, c, c
            if (++depth > 64) fail()
            kind[depth] = c; base[depth] = here; count[depth] = 0
            state = c == "{" ? "first key" : "first value"
        } else if (c == ":") {
            if (state != "colon") fail()
            state = "value"
        } else if (c == ",") {
            if (state != "next") fail()
            state = kind[depth] == "{" ? "key" : "value"
        } else {
            if (!depth || kind[depth] != (c == "}" ? "{" : "[")) fail()
            if (state != "next" && state != (c == "}" ? "first key" : "first value")) fail()
            state = --depth ? "next" : "end"
        }
    }'
}

# Sets $it to what the last answer says at PATH; empty if there is no such place.
said() { # PATH
    it=$(awk -F '\t' -v path="$1" '$1 == path { print $3; exit }' "$scratch/flat") || broken
}

# Without the list that it should hold, an answer is not taken for an empty one.
needs_list() { # PATH
    said "$1"
    [ "$it" = "[" ] || die 75 "$api answers $what with HTTP $status, but not with the list $1"
}

# --- requests --------------------------------------------------------------------------------------

# Not printf, which is a program in some shells, with the key as its argument.
quoted() {
    sed 's/[\\"]/\\&/g' <<END
$1
END
}

# The key is a header and arguments can be read by every user of the machine, so curl gets all on its stdin.
curl_config() { # METHOD PATH SECONDS
    address=$(quoted "$url$2") && header=$(quoted "$auth_header: $auth_prefix$secret") && place=$(quoted "$scratch") || return 1
    cat <<END || return 1
silent
show-error
globoff
proto = "=http,https"
connect-timeout = $3
max-time = $3
request = "$1"
url = "$address"
header = "$header"
header = "Accept: application/json"
user-agent = "picored"
dump-header = "$place/head"
output = "$place/body"
write-out = "%{http_code}"
END
    [ ! -s "$scratch/sent" ] || printf 'header = "Content-Type: application/json"\ndata-binary = "@%s/sent"\n' "$place"
}

# Leaves the answer in $scratch/body and flat in $scratch/flat. Without success the handler ends here, but for
# the status that the caller knows how to take: then 1.
request() { # METHOD PATH [BODY [STATUS]]
    left=$((deadline - $(now)))
    [ "$left" -gt 0 ] || die 75 "out of time: DNS_TIMEOUT, $timeout s, is over before $1 of ${2%%\?*}"
    : >"$scratch/body" && : >"$scratch/head" && : >"$scratch/flat" && printf '%s' "${3-}" >"$scratch/sent" ||
        die 75 "cannot write to $scratch"
    # 4 MiB are the most that an answer may have: busybox takes some seconds to read that. ulimit counts blocks of
    # 512 bytes.
    config=$(curl_config "$1" "$2" "$left") || broken
    status=$( (ulimit -f 8192 2>/dev/null; exec curl -q -K -) 2>"$scratch/errors" <<END
$config
END
    )
    code=$?
    what="$1 ${2%%\?*}"
    case $code:$status in
    0:2??)
        [ "$1" != GET ] && [ ! -s "$scratch/body" ] || json <"$scratch/body" >"$scratch/flat" ||
            die 75 "$api answers $what with HTTP $status, but not with JSON; a proxy's or a login page?"
        return 0
        ;;
    0:"${4-}") json <"$scratch/body" >"$scratch/flat" || : >"$scratch/flat"; return 1 ;;
    0:*) refused ;;
    *) failed ;;
    esac
}

refused() {
    json <"$scratch/body" >"$scratch/flat" || : >"$scratch/flat"
    after=$(awk 'tolower($1) == "retry-after:" { sub(/^[^:]*: */, ""); sub(/\r$/, ""); print; exit }' "$scratch/head") || broken
    what="$api answers $what with HTTP $status$(reasons)${after:+; it says to try again after $after}"
    case $status:$after in
    408:* | 409:* | 423:* | 425:* | 429:* | 5??:* | *:?*) die 75 "$what" ;;
    401:* | 403:*) die 1 "$what. $advice" ;;
    3??:*) die 1 "$what, a redirect, which is not followed; is $url the API's address?" ;;
    *) die 1 "$what" ;;
    esac
}
# ": message (code)" of the errors in the answer, in the form of any of the three APIs.
reasons() {
    awk -F '\t' '
        $1 ~ /^\/(error|errors\/[0-9]+)(\/(message|code))?$/ && $2 != "{" && $2 != "[" && !seen[$3]++ {
            out = out (out == "" ? ": " : ", ") $3
        }
        END { print (length(out) > 400 ? substr(out, 1, 400) "..." : out) }' "$scratch/flat"
}

failed() {
    error=$(tail -n 1 "$scratch/errors")
    case $code in
    1 | 2 | 3 | 4) die 78 "$error" ;;
    51 | 60) die 1 "$error. Its certificate is not trusted: are ca-certificates installed and is the clock right?" ;;
    77) die 78 "$error. Are ca-certificates installed?" ;;
    23 | 63 | 153) die 75 "the answer to $what cannot be kept: it is larger than 4 MiB, or the disk is full" ;;
    52) die 75 "$api closed the connection at $what without an answer; does it let this node's address in?" ;;
    *) die 75 "$api cannot be asked ($what): ${error:-curl ended with $code}" ;;
    esac
}

# --- comparing -------------------------------------------------------------------------------------

# Sets $was to the addresses of NAME and TYPE that are there, sorted, each followed by a space, and $was_ttl to
# their TTL, preferably one that is not DNS_TTL.
was() { # NAME TYPE
    was=$(awk -F '\t' -v name="$1" -v type="$2" -v ttl="$ttl" '
        $1 == name && $2 == type {
            if (!seen[$3]++) addresses = addresses $3 " "
            if (its == "" || $4 != ttl) its = $4
        }
        END { print its "/" addresses }' "$have") || broken
    was_ttl=${was%%/*} was=${was#*/}
}
# Fills $changes with the lines "NAME TYPE" of what is not as it should be, and $summary for people. A TTL
# that is not DNS_TTL counts if the handler sets TTLs of records that are there.
compare() { # [ttl]
    changes= summary=
    sort "$have" >"$have.sorted" && mv "$have.sorted" "$have" || broken
    for name in $names; do
        was "$name" CNAME
        [ -z "$was" ] || die 1 "$name is a CNAME; addresses cannot stand beside it"
        for type in $types; do
            want "$type"
            was "$name" "$type"
            [ $# = 1 ] && [ -n "$was" ] || was_ttl=$ttl
            [ "$was" != "$want" ] || [ "$was_ttl" != "$ttl" ] || continue
            changes="$changes$name $type
"
            [ "$was_ttl" = "$ttl" ] && note= || note=" (TTL $was_ttl -> $ttl)"
            shown=${want% }
            summary="$summary
  $name $type: ${was:-none }-> ${shown:-none}$note"
        done
    done
}

# Reads, compares, calls write_records if something differs, and looks again.
follow() { # [ttl]
    read_records
    compare "$@"
    [ -n "$changes" ] || { echo "unchanged:$names already has what it should"; exit 0; }
    if [ "${PICORED_DRY_RUN-}" = 1 ]; then
        printf 'dry run, nothing was sent; would change:%s\n' "$summary"
        exit 0
    fi
    told=$summary
    write_records
    read_records
    compare "$@"
    [ -z "$changes" ] || die 75 "$api took the changes, but not all is there:$summary"
    printf 'written:%s\n' "$told"
}
