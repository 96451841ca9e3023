package config

import (
	"fmt"
	"strings"
	"testing"
)

// By its certificate a node is known to the others: a name that two nodes have, in whatever spelling, would let one be
// the other, and one with a wildcard many.
func TestNamesInCertificates(t *testing.T) {
	for _, row := range []struct {
		cluster string   // keys of the cluster
		names   string   // of the nodes
		has     []string // their certificates
		want    string   // in the error, "" for none
	}{
		{"name: main, ", "abc", nil, ""},
		{"pipeline: My_Job, ", "abc", nil, ""}, // without TLS no name is needed
		{"pipeline: My_Job, tls: {ca: a, cert: b, key: c}, ", "abc", nil, "cluster.tls: needs a cluster.name"},
		{"pipeline: My_Job, tls: {ca: a, cert: b, key: c}, ", "ab", []string{"a.example"}, "cluster.tls: needs"},
		{"pipeline: My_Job, tls: {ca: a, cert: b, key: c}, ", "abc", []string{"a.example", "b.example", "c.example"},
			""},
		{"tls: {ca: a, cert: b, key: c}, ", "abc", nil, ""},
		{"tls: {ca: a, cert: b, key: c, insecure_skip_verify: true}, ", "abc", nil, "each end verifies the other"},
		{"name: Main, ", "abc", nil, `cluster.name: "Main" is no name of a cluster`},
		{"", "abc", []string{"a.example"}, ""},
		{"", "abc", []string{"a.example", "A.EXAMPLE"}, `cluster.nodes[1].certificate: "A.EXAMPLE" is another node's`},
		{"", "abc", []string{"fd00::1", "fd00:0::1"}, "cluster.nodes[1].certificate: "},
		{"", "abc", []string{"deckle://deckle/node/b"}, "cluster.nodes[1].certificate: "},
		{"", "abc", []string{"spiffe://x/Y", "spiffe://x/y"}, ""},
		{"", "aAc", nil, ""}, // were two nodes before there were certificates
		{"", "abc", []string{"*.example"}, "wildcard"},
		{"", "abc", []string{"a.example:7946"}, "without port"},
	} {
		text := "node: a\ndata_dir: /d\nkafka: {brokers: [\"k:9092\"]}\nclickhouse: {address: \"c:9000\"}\ncluster: {" +
			row.cluster + "nodes: ["
		for i, name := range row.names {
			text += fmt.Sprintf("{name: %c, address: \"127.0.0.1:%d\"", name, i+1)
			if i < len(row.has) {
				text += fmt.Sprintf(", certificate: %q", row.has[i])
			}
			text += "}, "
		}
		text += "]}\n"
		_, err := Load("deckle.yaml", testEnv, testFiles(text))
		if (err == nil) != (row.want == "") || err != nil && !strings.Contains(err.Error(), row.want) {
			t.Errorf("%s%v\nwant %q", text, err, row.want)
		}
	}
}

// Nodes that others can reach do not start without TLS, unless the file says that it is meant.
func TestReachedNodesNeedTLS(t *testing.T) {
	local := [3]string{"127.0.0.1:1", "127.0.0.1:2", "127.0.0.1:3"}
	far := [3]string{"10.0.0.1:1", "10.0.0.2:1", "10.0.0.3:1"}
	for _, row := range []struct {
		cluster   string // keys of the cluster
		addresses [3]string
		nodes     int
		refused   bool
	}{
		{"", [3]string{"127.0.0.1:1", "localhost:2", "[::1]:3"}, 3, false},
		{"", [3]string{"127.0.0.1:1", "127.8.8.8:2", "LOCALHOST:3"}, 3, false},
		{"", [3]string{"127.0.0.1:1", "127.0.0.1:2", "10.0.0.3:3"}, 3, true},
		{"", [3]string{"127.0.0.1:1", "127.0.0.1:2", "node-c:3"}, 3, true},
		{"", [3]string{"127.0.0.1:1", "127.0.0.1:2", "localhost.example:3"}, 3, true},
		{"listen: \":1\", ", local, 3, true},
		{"listen: \"0.0.0.0:1\", ", local, 3, true},
		{"insecure: true, ", far, 3, false},
		{"tls: {ca: a, cert: b, key: c}, ", far, 3, false},
		{"tls: {ca: a, cert: b, key: c}, insecure: true, ", far, 3, false},
		{"", [3]string{"10.0.0.1:1"}, 1, false}, // a single node has no such port
	} {
		text := "node: a\ndata_dir: /d\nkafka: {brokers: [\"k:9092\"]}\nclickhouse: {address: \"c:9000\"}\ncluster: {" +
			row.cluster + "nodes: ["
		for i, a := range row.addresses[:row.nodes] {
			text += fmt.Sprintf("{name: %c, address: %q}, ", 'a'+i, a)
		}
		text += "]}\n"
		_, err := Load("deckle.yaml", testEnv, testFiles(text))
		said := fmt.Sprint(err)
		if (err != nil) != row.refused || err != nil && (!strings.Contains(said, "cluster.tls: is missing") ||
			!strings.Contains(said, "deckle certs init") || !strings.Contains(said, "cluster.insecure: true")) {
			t.Errorf("%s%s", text, said)
		}
	}
}

// Certificates are made by what a file says that is not good before there are any: only who the nodes are is judged.
func TestLoadCluster(t *testing.T) {
	for _, row := range [][2]string{
		{`cluster: {nodes: [{name: a, address: "h:1"}], tls: {}}`, ""},
		{"frob: 1\ncluster: {shards: x, nodes: [{name: a, address: \"h:1\"}]}\nkafka: []\n", ""},
		{`cluster: {name: A, nodes: [{name: a, address: "h:1"}]}`, "cluster.name: "},
		{`cluster: {nodes: [{name: a, address: "h"}]}`, "cluster.nodes[0].address: "},
		{`cluster: {nodes: [{name: a, address: "h:1", frob: 2}]}`, "cluster.nodes[0].frob: unknown key"},
		{`cluster: {nodes: x}`, "cluster.nodes: "},
		{`cluster: x`, "cluster: "},
		{`node: a`, "cluster.nodes: is missing"},
		{"cluster: {nodes: [", "deckle.yaml:"},
		{"", "is empty"},
	} {
		text, want := row[0], row[1]
		c, err := LoadCluster("deckle.yaml", testEnv, testFiles(text))
		if (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", text, err, want)
		}
		if err == nil && (c.Name != "deckle" || len(c.Nodes) != 1 || c.Nodes[0].Address != "h:1") {
			t.Errorf("%s: %+v", text, c)
		}
	}
}
