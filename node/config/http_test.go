package config

import (
	"fmt"
	"strings"
	"testing"
)

// What the HTTP side is told about names, proxies and paths is what it goes by when it judges strangers, so whatever
// could not mean what its author thinks is refused.
func TestHTTPBlock(t *testing.T) {
	for _, c := range [][2]string{
		{"{}", ""},
		{`{hosts: [deckle.example, 10.0.0.1, "fd00::1"]}`, ""},
		{`{hosts: ["deckle.example:80"]}`, "http.hosts[0]: "},
		{`{hosts: [a, "https://deckle.example"]}`, "http.hosts[1]: "},
		{`{hosts: ["*.example"]}`, "http.hosts[0]: "},
		{`{hosts: ["*"]}`, "http.hosts[0]: "},
		{`{hosts: [""]}`, "http.hosts[0]: "},
		{"{base_path: /deckle}", ""},
		{"{base_path: /a.b/c-d}", ""},
		{"{base_path: /deckle/}", "http.base_path: "},
		{"{base_path: deckle}", "http.base_path: "},
		{"{base_path: /..}", "http.base_path: "},
		{"{base_path: /a//b}", "http.base_path: "},
		{"{base_path: \"/a b\"}", "http.base_path: "},
		{`{trusted_proxies: [10.0.0.0/8, 192.0.2.1, "fd00::/8", "::1"]}`, ""},
		{"{trusted_proxies: [0.0.0.0/0]}", "http.trusted_proxies[0]: "},
		{`{trusted_proxies: ["::/0"]}`, "http.trusted_proxies[0]: "},
		{"{trusted_proxies: [proxy.example]}", "http.trusted_proxies[0]: "},
		{"{max_connections: 8}", ""},
		{"{max_connections: 0}", ""},
		{"{max_connections: 7}", "http.max_connections: 7 is too small"},
	} {
		text := leastConfig + "http: " + strings.Replace(c[0], "{", "{insecure: true, ", 1) + "\n"
		_, err := Load("deckle.yaml", testEnv, testFiles(text))
		if (err == nil) != (c[1] == "") || err != nil && !strings.Contains(err.Error(), c[1]) {
			t.Errorf("%s: %v, want %q", c[0], err, c[1])
		}
	}
	const full = `tls: {cert: c, key: k}, auth: {tokens: t}`
	for _, c := range [][2]string{
		{`{listen: "0.0.0.0:80"}`, "http.listen: 0.0.0.0:80 is no loopback address"},
		{`{listen: ":80"}`, "http.listen: "},
		{`{listen: "node.example:80"}`, "http.listen: "},
		{`{listen: "[::]:80", tls: {cert: c, key: k}}`, "http.listen: "},
		{`{listen: "10.0.0.1:80", auth: {tokens: t}}`, "http.listen: "},
		{`{listen: "10.0.0.1:80", ` + full + `}`, ""},
		{`{listen: "10.0.0.1:80", insecure: true}`, ""},
		{`{listen: "127.0.0.1:80"}`, ""}, {`{listen: "[::1]:80"}`, ""}, {`{listen: "localhost:80"}`, ""},
		{`{hosts: [deckle.example]}`, "http.hosts: "},
		{`{base_path: /deckle}`, "http.base_path: "},
		{`{trusted_proxies: [10.0.0.1]}`, "http.trusted_proxies: "},
		{`{hosts: [deckle.example], base_path: /deckle, trusted_proxies: [10.0.0.1], auth: {tokens: t}}`, ""},
		{`{auth: {}}`, "http.auth.tokens: is missing"},
		{`{auth: {certificates: {ca: c, roles: [{name: a, role: viewer}]}}}`, "http.auth.certificates: needs http.tls"},
		{`{tls: {cert: c, key: k}, auth: {certificates: {ca: c, roles: [{name: a, role: viewer}]}}}`, ""},
		{`{tls: {cert: c, key: k}, auth: {certificates: {roles: [{name: a, role: viewer}]}}}`, ".ca: is missing"},
		{`{tls: {cert: c, key: k}, auth: {certificates: {ca: c}}}`, ".roles: is missing"},
		{`{tls: {cert: c, key: k}, auth: {certificates: {ca: c, roles: [{name: a, role: root}]}}}`,
			`"root" is not known`},
		{`{tls: {cert: c, key: k}, auth: {certificates: {ca: c, roles: [{name: a, role: admin}, ` +
			`{name: a, role: viewer}]}}}`, "given twice"},
		{`{open: [livez, status]}`, `http.open[1]: "status" is not known`},
		{`{open: [metrics]}`, ""},
		{`{audit: {max_bytes: 1KiB}}`, "http.audit.max_bytes: "},
		{`{audit: {keep: -1}}`, "http.audit.keep: "},
	} {
		_, err := Load("deckle.yaml", testEnv, testFiles(leastConfig+"http: "+c[0]+"\n"))
		if (err == nil) != (c[1] == "") || err != nil && !strings.Contains(err.Error(), c[1]) {
			t.Errorf("%s: %v, want %q", c[0], err, c[1])
		}
	}
	const https, who = `issuer: "https://id.example/realm", `, `audience: d, claim: r, roles: [{name: a, role: viewer}]`
	for _, c := range [][2]string{
		{https + who, ""},
		{"", ".issuer: is missing"}, {"", ".audience: is missing"},
		{"", ".claim: is missing"}, {"", ".roles: is missing"},
		{`issuer: "http://id.example", ` + who, ".issuer: "},
		{`issuer: "id.example", ` + who, ".issuer: "},
		{`issuer: "https://a:b@id.example", ` + who, ".issuer: "},
		{`issuer: "https://id.example?x", ` + who, ".issuer: "},
		{https + `audience: d, claim: r, roles: [{name: a, role: root}]`, `"root" is not known`},
		{https + `audience: d, claim: r, roles: [{name: a, role: viewer}, {name: a, role: admin}]`, "given twice"},
	} {
		_, err := Load("deckle.yaml", testEnv, testFiles(leastConfig+"http: {auth: {oidc: {"+c[0]+"}}}\n"))
		if (err == nil) != (c[1] == "") || err != nil && !strings.Contains(err.Error(), "http.auth.oidc") ||
			err != nil && !strings.Contains(err.Error(), c[1]) {
			t.Errorf("%s: %v, want %q", c[0], err, c[1])
		}
	}
	h := HTTP{TrustedProxies: []string{"10.1.2.3/8", "::ffff:192.0.2.1", "fd00::1"}}
	if got := fmt.Sprint(h.Proxies()); got != "[10.0.0.0/8 192.0.2.1/32 fd00::1/128]" {
		t.Error(got)
	}
}
