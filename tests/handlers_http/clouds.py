#!/usr/bin/env python3
"""A stand-in for the DNS parts of two clouds' HTTP APIs, for the tests of the handlers: clouds.py PORT FOLDER.

FOLDER/seed.json holds the records at the start, FOLDER/plan.json how to behave; it is read again whenever it has
changed. FOLDER/log.jsonl gets one line per request, before it is answered; FOLDER/state.json what is there.

Cloudflare below /client/v4, after these pages of developers.cloudflare.com:
  api/resources/zones/methods/list
  api/resources/dns/subresources/records/methods/list, create, delete
  fundamentals/api/reference/limits                      (429, Retry-After)
  The codes 81058 (identical record, HTTP 400), 81053 (CNAME) and 10000 (HTTP 403) as users' reports quote them:
  github.com/jeessy2/ddns-go/issues/1378, cloudflare/terraform-provider-cloudflare/issues/1247 and 1533.
  UNSURE: the code of a DELETE of what is not there; the handler looks at the HTTP status alone.

Hetzner below /v1, after https://docs.hetzner.cloud/reference/cloud:
  #zone-rrsets-list-rrsets, -create-an-rrset, -delete-an-rrset
  #zone-rrset-actions-set-records-of-an-rrset, -change-an-rrsets-ttl
  #description/pagination, and the schemas and error codes of github.com/hetznercloud/hcloud-go (hcloud/schema,
  hcloud/error.go). A change is seen when its action has succeeded.
  UNSURE: 200 or 201 for what was created; the handler takes any 2xx.

plan.json, all optional:
  page      the most records on a page, whatever per_page says
  no_total_pages  Cloudflare: result_info without total_pages, as in older versions of the documents
  unfiltered  lists ignore what was asked for by name, and hold everything
  style     "weird": the same JSON as nobody would write it
  polls     Hetzner: so often an action is said to be still running, the answer to the write included
  action    "error": Hetzner's actions fail
  faults    [{"on": "read" | "write" | "any", "nth": 1, "times": 1 (0: for ever), "do": …}], counted from the change
            of the plan:  status (with "status", "headers", "html"), html (HTTP 200), cut, slow ("seconds"), trickle,
            blind (a list without anything in it), empty (HTTP 200, {}), huge (5 MiB), drop (nothing done), lose (done, but no answer), refuse (HTTP 200, success false), echo (403, repeats the
            authorization)
"""

import ipaddress
import json
import os
import sys
import threading
import time
import urllib.parse
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

ZONE = "example.test"
ZONE_ID = "023e105f4ecef8ad9ca31a8372d0c353"
TOKENS = {"client": "cloudflare-token-of-the-tests", "v1": "hetzner-token-of-the-tests"}
HTML = b"<html><head><title>502 Bad Gateway</title></head>\n<body>{\"success\":true}</body></html>\n"
FOLDER = sys.argv[2]
LOCK = threading.Lock()


def path(name):
    return os.path.join(FOLDER, name)


def load(name, default):
    try:
        with open(path(name)) as file:
            return json.load(file)
    except FileNotFoundError:
        return default


class World:
    def __init__(self):
        seed = load("seed.json", {})
        self.records = [dict(self.record(i + 1), **r) for i, r in enumerate(seed.get("cloudflare", []))]
        self.rrsets = {(r["name"], r["type"]): r for r in seed.get("hetzner", [])}
        self.next = 1000
        self.actions = {}
        self.text, self.plan, self.seen = None, {}, {"read": 0, "write": 0, "any": 0}
        self.requests = 0

    def record(self, number):
        return {"id": "%032x" % number, "ttl": 1, "proxied": False, "proxiable": True, "comment": None, "tags": [],
                "settings": {}, "meta": {"id": "decoy", "content": "192.0.2.250", "name": "www." + ZONE}}

    def look_at_plan(self):
        with open(path("plan.json")) as file:
            text = file.read()
        if text != self.text:
            self.text, self.plan, self.seen = text, json.loads(text), {"read": 0, "write": 0, "any": 0}

    def fault(self, kind):
        for key in (kind, "any"):
            self.seen[key] += 1
        for fault in self.plan.get("faults", []):
            on = fault.get("on", "any")
            number, nth, times = self.seen[on], fault.get("nth", 1), fault.get("times", 1)
            if on in (kind, "any") and number >= nth and (times == 0 or number < nth + times):
                return fault
        return {}

    def published(self):
        """What a resolver would be told: by name the addresses with their types."""
        said = {}
        for r in self.records:
            said.setdefault("cloudflare " + r["name"], []).append(r["type"] + " " + r["content"])
        for r in self.rrsets.values():
            name = ZONE if r["name"] == "@" else r["name"] + "." + ZONE
            said.setdefault("hetzner " + name, []).extend(r["type"] + " " + x["value"] for x in r["records"])
        return {name: sorted(values) for name, values in said.items()}

    def save(self):
        with open(path("state.new"), "w") as file:
            json.dump({"published": self.published(), "cloudflare": self.records,
                       "hetzner": list(self.rrsets.values())}, file)
        os.rename(path("state.new"), path("state.json"))


WORLD = World()


def address(kind, text):
    """The address as the APIs write it; ValueError if it is none of that family."""
    return str((ipaddress.IPv4Address if kind == "A" else ipaddress.IPv6Address)(text))


def asked_for(key, query):
    return None if WORLD.plan.get("unfiltered") else query.get(key, [None])[0]


# --- Cloudflare ------------------------------------------------------------------------------------


def cf(status, result, errors=(), **more):
    return status, dict({"result": result, "success": not errors, "errors": list(errors), "messages": []}, **more)


def cf_error(status, code, message):
    return cf(status, None, [{"code": code, "message": message}])


def cf_page(items, query):
    size = min(int(query.get("per_page", ["100"])[0]), WORLD.plan.get("page", 5000000))
    page = int(query.get("page", ["1"])[0])
    part = items[(page - 1) * size:page * size]
    info = {"count": len(part), "page": page, "per_page": size, "total_count": len(items)}
    if not WORLD.plan.get("no_total_pages"):
        info["total_pages"] = -(-len(items) // size)
    return cf(200, part, result_info=info)


def cloudflare(method, parts, query, body):
    if parts == ["zones"] and method == "GET":
        zones = [{"id": "a" * 32, "name": "other.test"}, {"id": ZONE_ID, "name": ZONE}]
        name = asked_for("name", query)
        return cf_page([z for z in zones if name in (None, z["name"])], query)
    if len(parts) < 3 or parts[0] != "zones" or parts[2] != "dns_records":
        return cf_error(404, 7000, "No route for that URI")
    if parts[1] != ZONE_ID:
        return cf_error(404, 7003, "Could not route to /zones/%s/dns_records, perhaps your object identifier is invalid?" % parts[1])
    if method == "GET":
        name = asked_for("name.exact", query)
        return cf_page([r for r in WORLD.records if name is None or r["name"] == name.lower()], query)
    if method == "DELETE":
        found = [r for r in WORLD.records if r["id"] == parts[3]]
        if not found:
            return cf_error(404, 81044, "Record does not exist.")
        WORLD.records.remove(found[0])
        return cf(200, {"id": parts[3]})
    if method != "POST":
        return cf_error(405, 10405, "Method not allowed")
    kind, name, ttl = body["type"], body["name"].lower(), body["ttl"]
    try:
        content = address(kind, body["content"])
    except ValueError:
        return cf_error(400, 9005, "Content for %s record must be a valid address." % kind)
    if ttl != 1 and not 60 <= ttl <= 86400:
        return cf_error(400, 9021, "Invalid TTL. Must be between 60 and 86400 seconds, or 1 for Automatic.")
    same = [r for r in WORLD.records if r["name"] == name]
    if any(r["type"] == "CNAME" for r in same):
        return cf_error(400, 81053, "An A, AAAA, or CNAME record with that host already exists.")
    if any(r["type"] == kind and r["content"] == content for r in same):
        return cf_error(400, 81058, "An identical record already exists.")
    WORLD.next += 1
    record = dict(WORLD.record(WORLD.next), name=name, type=kind, content=content, ttl=ttl,
                  proxied=body.get("proxied", False))
    WORLD.records.append(record)
    return cf(200, record)


# --- Hetzner ---------------------------------------------------------------------------------------


def hz_error(status, code, message):
    return status, {"error": {"code": code, "message": message, "details": {}}}


def hz_action(command, change, **more):
    WORLD.next += 1
    action = {"id": WORLD.next, "command": command, "status": "running", "progress": 0, "error": None,
              "started": "2026-01-30T23:50:00Z", "finished": None, "resources": [{"id": 42, "type": "zone"}]}
    WORLD.actions[action["id"]] = [WORLD.plan.get("polls", 0), change, action]
    return 201, dict({"action": hz_step(action["id"])}, **more)


def hz_step(number):
    left, change, action = WORLD.actions[number]
    if action["status"] != "running":
        return dict(action)
    if left > 0:
        WORLD.actions[number][0] -= 1
    elif WORLD.plan.get("action") == "error":
        action.update(status="error", error={"code": "action_failed", "message": "Action failed"})
    else:
        change()
        action.update(status="success", progress=100)
    return dict(action)


def hz_records(kind, records):
    values = [address(kind, r["value"]) for r in records]
    if not values or len(set(values)) != len(values):
        raise ValueError
    return [{"value": v, "comment": r.get("comment", "")} for v, r in zip(values, records)]


def hetzner(method, parts, query, body):
    if parts[0] == "actions" and method == "GET":
        return 200, {"action": hz_step(int(parts[1]))}
    if parts[:1] != ["zones"] or parts[1] not in (ZONE, "42") or parts[2] != "rrsets":
        return hz_error(404, "not_found", "zone not found")
    try:
        if len(parts) == 3 and method == "GET":
            kinds, name = query.get("type"), asked_for("name", query)
            items = [r for r in WORLD.rrsets.values()
                     if (not kinds or r["type"] in kinds) and name in (None, r["name"])]
            size = min(int(query.get("per_page", ["25"])[0]), 50, WORLD.plan.get("page", 50))
            page, last = int(query.get("page", ["1"])[0]), max(1, -(-len(items) // size))
            meta = {"page": page, "per_page": size, "previous_page": page - 1 or None,
                    "next_page": page + 1 if page < last else None, "last_page": last, "total_entries": len(items)}
            return 200, {"rrsets": items[(page - 1) * size:page * size], "meta": {"pagination": meta}}
        if len(parts) == 3 and method == "POST":
            key = (body["name"], body["type"])
            if key in WORLD.rrsets:
                return hz_error(409, "uniqueness_error", "an RRSet with that name and type exists already")
            ttl = body.get("ttl")
            if ttl is not None and ttl < 60:
                raise ValueError
            rrset = {"id": "/".join(key), "name": key[0], "type": key[1], "ttl": ttl, "labels": {},
                     "protection": {"change": False}, "records": hz_records(key[1], body["records"]), "zone": 42}
            return hz_action("create_rrset", lambda: WORLD.rrsets.update({key: rrset}), rrset=rrset)
        key = (parts[3], parts[4])
        if key not in WORLD.rrsets:
            return hz_error(404, "not_found", "rrset not found")
        rrset = WORLD.rrsets[key]
        if rrset["protection"]["change"]:
            return hz_error(422, "protected", "the RRSet is protected")
        if method == "DELETE":
            return hz_action("delete_rrset", lambda: WORLD.rrsets.pop(key, None))
        if method == "POST" and parts[5:] == ["actions", "set_records"]:
            records = hz_records(key[1], body["records"])
            return hz_action("set_rrset_records", lambda: rrset.update(records=records))
        if method == "POST" and parts[5:] == ["actions", "change_ttl"]:
            ttl = body["ttl"]
            return hz_action("change_rrset_ttl", lambda: rrset.update(ttl=ttl))
        return hz_error(405, "method_not_allowed", "method not allowed")
    except (ValueError, KeyError):
        return hz_error(422, "invalid_input", "invalid input in fields records or ttl")


# --- HTTP ------------------------------------------------------------------------------------------


def weird(value):
    """The same JSON: keys turned round, blanks of all kinds, every second character escaped."""
    if isinstance(value, dict):
        return "{\r\n\t" + " ,\n ".join(weird(k) + "\t: " + weird(value[k]) for k in reversed(value)) + " }"
    if isinstance(value, list):
        return "[ " + ",\r\n".join(map(weird, value)) + "\n]"
    if isinstance(value, str):
        plain = [json.dumps(c)[1:-1] for c in value]
        return '"' + "".join("\\u%04X" % ord(c) if i % 2 else p for i, (c, p) in enumerate(zip(value, plain))) + '"'
    return json.dumps(value)


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def reply(self, status, body, headers=(), html=False):
        self.send_response(status)
        self.send_header("Content-Type", "text/html" if html else "application/json")
        self.send_header("Content-Length", str(len(body)))
        for name, value in headers:
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def drop(self):
        self.close_connection = True
        self.connection.shutdown(2)

    def answer(self):
        parsed = urllib.parse.urlsplit(self.path)
        parts = parsed.path.strip("/").split("/")
        cloud = parts.pop(0)
        if cloud == "client":
            parts.pop(0)
        query = urllib.parse.parse_qs(parsed.query)
        sent = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        kind = "read" if self.command == "GET" else "write"
        right = self.headers.get("Authorization") == "Bearer " + TOKENS.get(cloud, "")
        with LOCK:
            WORLD.look_at_plan()
            fault = WORLD.fault(kind)
            does = fault.get("do")
            if does in (None, "slow", "trickle", "lose", "cut", "blind"):
                if not right and cloud == "client":
                    status, result = cf_error(403, 10000, "Authentication error")
                elif not right:
                    status, result = hz_error(401, "unauthorized", "unable to authenticate")
                else:
                    run = cloudflare if cloud == "client" else hetzner
                    status, result = run(self.command, parts, query, json.loads(sent) if sent else None)
                if does == "blind":
                    result = {key: [] if isinstance(value, list) else value for key, value in result.items()}
                WORLD.save()
            else:
                status, result = fault.get("status", 200), {}
            with open(path("log.jsonl"), "a") as log:
                log.write(json.dumps({"method": self.command, "path": self.path, "authorized": right, "status": status,
                                      "fault": does, "body": sent.decode(), "published": WORLD.published()}) + "\n")
        said = (weird(result) if WORLD.plan.get("style") == "weird" else json.dumps(result)).encode()
        headers = list(fault.get("headers", {}).items())
        if does in ("drop", "lose"):
            return self.drop()
        if does == "slow":
            time.sleep(fault["seconds"])
        if does == "huge":
            said = b'{"success":true,"result":[],"rrsets":["' + 5 * 1024 * 1024 * b"x" + b'"]}'
        if does == "html" or fault.get("html"):
            return self.reply(status, HTML, headers, html=True)
        if does == "cut":
            return self.reply(status, said[:len(said) // 2])
        if does == "refuse":
            return self.reply(200, json.dumps(cf_error(200, 1004, "DNS Validation Error")[1]).encode())
        if does == "echo":
            told = "no access for " + self.headers.get("Authorization", "")
            return self.reply(403, json.dumps({"error": {"message": told}, "errors": [{"code": 1, "message": told}]}).encode())
        if does == "status" and cloud == "client":
            said = json.dumps(cf_error(status, 10100 if status == 429 else 10001, "as planned")[1]).encode()
        elif does == "status":
            code = "rate_limit_exceeded" if status == 429 else "server_error"
            said = json.dumps(hz_error(status, code, "as planned")[1]).encode()
        if does == "trickle":
            self.send_response(200)
            self.send_header("Content-Length", "100000")
            self.end_headers()
            for _ in range(600):
                self.wfile.write(b" ")
                self.wfile.flush()
                time.sleep(0.1)
            return None
        return self.reply(status, said, headers)

    def do_GET(self):
        try:
            self.answer()
        except (BrokenPipeError, ConnectionResetError):
            self.close_connection = True

    do_POST = do_DELETE = do_PATCH = do_PUT = do_GET


class Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request, client_address):
        # Clients that have seen enough are no error.
        if not isinstance(sys.exc_info()[1], ConnectionError):
            super().handle_error(request, client_address)


if __name__ == "__main__":
    Server(("127.0.0.1", int(sys.argv[1])), Handler).serve_forever()
