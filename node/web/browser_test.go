package web

import (
	"bytes"
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"testing"
	"time"

	"deckle/node/condition"
	"deckle/node/status"
	"deckle/schema"
	"deckle/state"
)

// bad is what an attacker would have the page show: it runs if it gets into the page as anything but text, in an
// element or in an attribute.
const bad = `<img src=x onerror="document.documentElement.dataset.ran=1">` +
	`<script>document.documentElement.dataset.ran=1</script>"onmouseover="document.documentElement.dataset.ran=1" '`

// A reader's brand, a broker's error, a node's name: whatever text comes into the page, in a real browser, none of it
// runs, and the page's policy would hold if one did. The policy itself stops nothing of the page's own.
// DECKLE_BROWSER names a Chromium; make browser runs it.
func TestBrowser(t *testing.T) {
	browser := os.Getenv("DECKLE_BROWSER")
	if browser == "" {
		t.Skip("DECKLE_BROWSER names no browser (make browser)")
	}
	src := newFakeSource()
	src.status.Node, src.status.ClusterID, src.status.Ready = "n1"+bad, bad, false
	src.status.Reasons = []string{"r1" + bad}
	src.status.Members = []status.Member{{Node: "m1" + bad}, {Node: "a", Answers: true}}
	src.status.Conditions = []condition.Condition{{ID: condition.ID("i1" + bad), Severity: condition.Stopped,
		Node: "c1" + bad, Subject: "shard 0", Since: testNow, Text: "t1" + bad, Todo: "d1" + bad}}
	src.status.Others = []condition.Condition{{ID: "i2", Severity: condition.Failing, Node: "c2" + bad,
		Subject: "s2" + bad, Since: testNow, Text: "t2" + bad, Todo: "d2" + bad}}
	src.status.Shards[0].Leader, src.status.Shards[1].Leader = "l1"+bad, "l2"+bad
	src.replicas[0].rows = []schema.RollupRow{
		rollup(schema.RollupSummary, testDay, 10, 100, 1),
		rollup(schema.RollupBrand, testDay, 6, 60, 1, "b1"+bad),
		rollup(schema.RollupDevice, testDay, 7, 70, 0, "e1"+bad, "iOS", "Safari"),
		rollup(schema.RollupGeographic, testDay, 10, 100, 0, "g1"+bad, "Berlin"),
		rollup(schema.RollupSubscription, testDay, 10, 100, 1, "u1"+bad, "loyal"),
	}
	src.replicas[0].sessions["x1"+bad] = &schema.SessionRow{SessionID: "x1" + bad, Origin: "0/7", Brand: "y1" + bad}
	for i := range src.status.Shards {
		src.status.Shards[i].State.Keys = state.KeyCounts{}
	}
	marks := strings.Fields("n1 m1 i1 c1 t1 d1 c2 s2 t2 d2 l1 l2 b1 e1 g1 u1 x1 y1")
	h := NewHandler(src, Options{Now: func() time.Time { return testNow }})
	show := func(more string) string { return shown(t, browser, h, more) }
	written := strings.ReplaceAll(bad, "</script>", `<\/script>`) // as it may stand in a script
	dom := show("setTimeout(() => { $('sid').value = `x1" + written + "`; $('find').requestSubmit(); }, 1500);")
	body := dom[strings.Index(dom, "<body"):strings.LastIndex(dom, "<script>")]
	root := regexp.MustCompile(`<html[^>]*>`).FindString(dom)
	if strings.Contains(root, "data-ran") || strings.Contains(root, "data-broken") ||
		!strings.Contains(root, `data-images="0"`) {
		t.Errorf("%s\n%s", root, body)
	}
	for _, m := range marks {
		if !strings.Contains(body, m+"&lt;img src=x") && !strings.Contains(body, m+`<img src=x`) &&
			!strings.Contains(body, m+`\u003cimg src=x`) {
			t.Errorf("the page does not show %s", m)
		}
	}
	if !regexp.MustCompile(`class="bar"[^>]* style="width: \d`).MatchString(body) {
		t.Errorf("the bars have no width")
	}
	// If something got through, the policy would stop it, and say so.
	dom = show("$('notes').innerHTML = `" + written + "`;")
	root = regexp.MustCompile(`<html[^>]*>`).FindString(dom)
	if strings.Contains(root, "data-ran") || !strings.Contains(root, "script-src-attr") {
		t.Errorf("a planted script: %s", root)
	}
}

// shown serves the page before h with more at the end of its script, as if it had been written so, and returns what the
// browser has made of it after some seconds of its own time.
func shown(t *testing.T, browser string, h http.Handler, more string) string {
	t.Helper()
	listen := `const root = document.documentElement.dataset;
document.addEventListener("securitypolicyviolation", e => { root.broken += e.effectiveDirective; });
setTimeout(() => { root.images = document.images.length; }, 5000);` + more
	html := bytes.Replace(page, []byte("\nbegin();\n</script>"), []byte("\n"+listen+"\nbegin();\n</script>"), 1)
	if bytes.Equal(html, page) {
		t.Fatal("the end of the page's script is not where it was")
	}
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/" {
			h.ServeHTTP(w, r)
			return
		}
		w.Header().Set("Content-Type", "text/html; charset=utf-8")
		w.Header().Set("Content-Security-Policy", strings.Replace(pagePolicy, hashOf(page, "script"),
			hashOf(html, "script"), 1))
		_, _ = w.Write(html)
	}))
	defer srv.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, browser, "--headless", "--no-sandbox", "--disable-gpu", "--no-first-run",
		"--disable-background-networking", "--disable-component-update", "--no-proxy-server",
		"--user-data-dir="+t.TempDir(), "--virtual-time-budget=6000", "--dump-dom", srv.URL)
	var errs bytes.Buffer
	cmd.Stderr = &errs
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%v\n%s", err, errs.String())
	}
	return string(out)
}

// Nobody sees a figure before a login, a wrong token is told so, a good one shows the page, and what it is kept as no
// script can read.
func TestBrowserLogin(t *testing.T) {
	browser := os.Getenv("DECKLE_BROWSER")
	if browser == "" {
		t.Skip("DECKLE_BROWSER names no browser (make browser)")
	}
	g := newGuarded(t)
	part := func(dom, from, to string) string {
		_, rest, _ := strings.Cut(dom, from)
		text, _, _ := strings.Cut(rest, to)
		return text
	}
	try := func(tokens ...string) (root, page string) {
		more := "\nroot.cookie = 'none';"
		for i, token := range tokens {
			more += fmt.Sprintf("\nsetTimeout(() => { $('token').value = %q; $('login').requestSubmit(); }, %d);",
				token, 1000*(i+1))
		}
		more += "\nsetTimeout(() => { root.cookie = '[' + document.cookie + ']'; root.out = document.body.className; " +
			"root.why = $('login-why').textContent; }, 4500);"
		dom := shown(t, browser, g, more)
		return regexp.MustCompile(`<html[^>]*>`).FindString(dom), part(dom, "<body", "<script>")
	}
	root, body := try()
	if !strings.Contains(root, `data-out="out"`) || strings.Contains(body, "bild") ||
		strings.Contains(root, "data-broken") {
		t.Errorf("nobody: %s\n%s", root, body)
	}
	root, body = try("dkl_k3f9x2ab_x")
	if !strings.Contains(root, `data-out="out"`) || !strings.Contains(root, "not known") ||
		strings.Contains(body, "bild") {
		t.Errorf("a wrong token: %s\n%s", root, body)
	}
	root, body = try("x", g.tokens["viewer"])
	if strings.Contains(root, `data-out="out"`) || !strings.Contains(body, "bild") ||
		!strings.Contains(root, `data-cookie="[]"`) || strings.Contains(root, "data-broken") {
		t.Errorf("a viewer: %s\n%s", root, body)
	}
	root, body = try(g.tokens["viewer/welt"])
	if strings.Contains(root, `data-out="out"`) || strings.Contains(body, "bild") || !strings.Contains(body, "welt") {
		t.Errorf("held to welt: %s\n%s", root, body)
	}
}
