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
		text := leastConfig + "http: " + c[0] + "\n"
		_, err := Load("deckle.yaml", testEnv, testFiles(text))
		if (err == nil) != (c[1] == "") || err != nil && !strings.Contains(err.Error(), c[1]) {
			t.Errorf("%s: %v, want %q", c[0], err, c[1])
		}
	}
	h := HTTP{TrustedProxies: []string{"10.1.2.3/8", "::ffff:192.0.2.1", "fd00::1"}}
	if got := fmt.Sprint(h.Proxies()); got != "[10.0.0.0/8 192.0.2.1/32 fd00::1/128]" {
		t.Error(got)
	}
}
