// peer: memberlist members without an application, for the interop tests.
//
// Lines on stdin are commands, lines on stdout are events as JSON, stderr is the library's log.
package main

import (
	"bufio"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"flag"
	"fmt"
	"log"
	"net"
	"os"
	"sort"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/hashicorp/memberlist"
)

// Long enough for a leave to be sent in any profile.
const patience = 10 * time.Second

var stdout sync.Mutex

// event prints one line: when (ns), at which of our members, what, and the pairs.
func event(node, what string, pairs map[string]interface{}) {
	if pairs == nil {
		pairs = map[string]interface{}{}
	}
	pairs["t"], pairs["node"], pairs["event"] = time.Now().UnixNano(), node, what
	line, err := json.Marshal(pairs)
	if err != nil {
		log.Fatalf("an event that is not JSON: %v", err)
	}
	stdout.Lock()
	defer stdout.Unlock()
	os.Stdout.Write(append(line, '\n'))
}

// about tells of a member. The library has no word for suspects, and none for whether the gone failed or left.
func about(n *memberlist.Node, state string) map[string]interface{} {
	return map[string]interface{}{
		"name":     n.Name,
		"addr":     net.JoinHostPort(n.Addr.String(), strconv.Itoa(int(n.Port))),
		"state":    state,
		"meta":     hex.EncodeToString(n.Meta),
		"versions": fmt.Sprint(n.PMin, n.PMax, n.PCur, n.DMin, n.DMax, n.DCur),
	}
}

// member is one member of ours: the library's instance and what it told us.
type member struct {
	name string
	list *memberlist.Memberlist
	keys *memberlist.Keyring

	lock sync.Mutex
	meta []byte
	// Members() keeps silent about the dead.
	gone map[string]map[string]interface{}
}

func (m *member) NodeMeta(limit int) []byte {
	m.lock.Lock()
	defer m.lock.Unlock()
	if len(m.meta) > limit {
		return m.meta[:limit]
	}
	return m.meta
}

func (m *member) NotifyMsg(message []byte) {
	event(m.name, "message", map[string]interface{}{"hex": hex.EncodeToString(message)})
}

func (m *member) GetBroadcasts(overhead, limit int) [][]byte { return nil }
func (m *member) LocalState(join bool) []byte                { return nil }
func (m *member) MergeRemoteState(state []byte, join bool)   {}

func (m *member) NotifyJoin(n *memberlist.Node) {
	m.lock.Lock()
	delete(m.gone, n.Name)
	m.lock.Unlock()
	event(m.name, "join", about(n, "alive"))
}

func (m *member) NotifyLeave(n *memberlist.Node) {
	m.lock.Lock()
	m.gone[n.Name] = about(n, "gone")
	m.lock.Unlock()
	event(m.name, "leave", about(n, "gone"))
}

func (m *member) NotifyUpdate(n *memberlist.Node) { event(m.name, "update", about(n, "alive")) }

// Write gets the library's log, a line at a time.
func (m *member) Write(line []byte) (int, error) {
	for _, level := range []string{"ERR", "WARN"} {
		if strings.Contains(string(line), "["+level+"]") {
			event(m.name, "log", map[string]interface{}{"level": level, "text": strings.TrimSpace(string(line))})
		}
	}
	return fmt.Fprintf(os.Stderr, "%s: %s", m.name, line)
}

func (m *member) members() []map[string]interface{} {
	m.lock.Lock()
	var all []map[string]interface{}
	for _, n := range m.gone {
		all = append(all, n)
	}
	m.lock.Unlock()
	for _, n := range m.list.Members() {
		all = append(all, about(n, "alive"))
	}
	sort.Slice(all, func(i, j int) bool { return all[i]["name"].(string) < all[j]["name"].(string) })
	return all
}

// to finds whom a message is for: a name, or "all" for everybody but us.
func (m *member) to(whom string) (found []*memberlist.Node) {
	for _, n := range m.list.Members() {
		if n.Name == whom || whom == "all" && n.Name != m.name {
			found = append(found, n)
		}
	}
	return found
}

func (m *member) send(words []string, how func(*memberlist.Node, []byte) error) error {
	message, err := hex.DecodeString(words[1])
	if err != nil {
		return err
	}
	nodes := m.to(words[0])
	if len(nodes) == 0 {
		return fmt.Errorf("nobody is called %s", words[0])
	}
	for _, n := range nodes {
		if err := how(n, message); err != nil {
			return err
		}
	}
	return nil
}

// key does with a keyring what Serf's agents do: add, use or remove.
func (m *member) key(words []string) error {
	key, err := base64.StdEncoding.DecodeString(words[1])
	if err != nil {
		return err
	}
	switch {
	case m.keys == nil:
		return fmt.Errorf("started without keys")
	case words[0] == "add":
		return m.keys.AddKey(key)
	case words[0] == "use":
		return m.keys.UseKey(key)
	case words[0] == "remove":
		return m.keys.RemoveKey(key)
	}
	return fmt.Errorf("add, use or remove, not %s", words[0])
}

func (m *member) setMeta(text string) error {
	meta, err := hex.DecodeString(text)
	if err != nil {
		return err
	}
	m.lock.Lock()
	m.meta = meta
	m.lock.Unlock()
	return m.list.UpdateNode(patience)
}

// run does one command; its arguments are as many as wanted.
func (m *member) run(words []string) error {
	wanted := map[string]int{"join": 1, "leave": 0, "members": 0, "meta": 1, "packet": 2, "stream": 2, "key": 2}
	count, known := wanted[words[0]]
	if !known || len(words) != count+1 {
		return fmt.Errorf("no such command: %s", strings.Join(words, " "))
	}
	switch words[0] {
	case "join":
		_, err := m.list.Join(strings.Split(words[1], ","))
		return err
	case "leave":
		return m.list.Leave(patience)
	case "members":
		event(m.name, "members", map[string]interface{}{"members": m.members()})
		return nil
	case "meta":
		return m.setMeta(words[1])
	case "packet":
		return m.send(words[1:], m.list.SendBestEffort)
	case "stream":
		return m.send(words[1:], m.list.SendReliable)
	default:
		return m.key(words[1:])
	}
}

func start(name, bind string, port int, profile, keys, versions string, meta []byte, compress bool) *member {
	m := &member{name: name, meta: meta, gone: map[string]map[string]interface{}{}}
	config := memberlist.DefaultLANConfig()
	switch profile {
	case "lan":
	case "wan":
		config = memberlist.DefaultWANConfig()
	case "local":
		config = memberlist.DefaultLocalConfig()
	default:
		log.Fatalf("-profile: lan, local or wan, not %s", profile)
	}
	config.Name, config.BindAddr, config.BindPort = name, bind, port
	config.AdvertiseAddr, config.AdvertisePort = bind, port
	config.EnableCompression = compress
	config.Delegate, config.Events, config.LogOutput = m, m, m
	var min, max, current uint8
	if _, err := fmt.Sscanf(versions, "%d,%d,%d", &min, &max, &current); err != nil {
		log.Fatalf("-delegate: %v", err)
	}
	config.DelegateProtocolMin, config.DelegateProtocolMax, config.DelegateProtocolVersion = min, max, current
	if keys != "" {
		var raw [][]byte
		for _, text := range strings.Split(keys, ",") {
			key, err := base64.StdEncoding.DecodeString(text)
			if err != nil {
				log.Fatalf("-keys: %v", err)
			}
			raw = append(raw, key)
		}
		ring, err := memberlist.NewKeyring(raw, raw[0])
		if err != nil {
			log.Fatalf("-keys: %v", err)
		}
		config.Keyring, m.keys = ring, ring
	}
	list, err := memberlist.Create(config)
	if err != nil {
		log.Fatalf("not started: %v", err)
	}
	m.list = list
	event(name, "ready", nil)
	return m
}

func main() {
	name := flag.String("name", "peer", "the member's name; with -count a number follows: NAME-1 …")
	bind := flag.String("bind", "127.0.0.1", "its address")
	port := flag.Int("port", 7946, "its port; with -count the first of consecutive ones")
	profile := flag.String("profile", "lan", "lan, local or wan")
	keys := flag.String("keys", "", "comma-separated, in base64; the first one encrypts")
	versions := flag.String("delegate", "0,0,0", "delegate versions: least, greatest, spoken; Serf's are 2,5,5")
	meta := flag.String("meta", "", "metadata in hexadecimal, or @FILE")
	compress := flag.Bool("compression", true, "compress what is sent")
	count := flag.Int("count", 1, "members in this process")
	flag.Parse()

	text := *meta
	if strings.HasPrefix(text, "@") {
		raw, err := os.ReadFile(text[1:])
		if err != nil {
			log.Fatalf("-meta: %v", err)
		}
		text = hex.EncodeToString(raw)
	}
	data, err := hex.DecodeString(text)
	if err != nil {
		log.Fatalf("-meta: %v", err)
	}
	var all []*member
	for i := 0; i < *count; i++ {
		own := *name
		if *count > 1 {
			own = fmt.Sprintf("%s-%d", *name, i+1)
		}
		all = append(all, start(own, *bind, *port+i, *profile, *keys, *versions, data, *compress))
	}

	// A command is for every member here. Its end, good or bad, is an event.
	lines := bufio.NewScanner(os.Stdin)
	for lines.Scan() {
		words := strings.Fields(lines.Text())
		if len(words) == 0 {
			continue
		}
		if words[0] == "quit" {
			return
		}
		for _, m := range all {
			err := m.run(words)
			failure := ""
			if err != nil {
				failure = err.Error()
			}
			event(m.name, "done", map[string]interface{}{"command": words[0], "error": failure})
		}
	}
}
