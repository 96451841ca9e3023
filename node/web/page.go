package web

import (
	"bytes"
	"crypto/sha256"
	_ "embed"
	"encoding/base64"
	"net/http"
)

// page is one HTML file with its style and its script; it loads nothing from elsewhere. It reads api/v1/status and
// api/v1/analytics of the server that it came from once per second.
//
//go:embed index.html
var page []byte

// pagePolicy allows the page's own style and script, by their hashes, and its own server; nothing else runs, whatever
// text gets into the page. A style attribute is not allowed either: the script sets element.style.
var pagePolicy = "default-src 'none'; style-src " + hashOf(page, "style") + "; script-src " + hashOf(page, "script") +
	"; connect-src 'self'; img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"

// hashOf returns the hash source of the only element of that name in an HTML file.
func hashOf(html []byte, element string) string {
	_, rest, _ := bytes.Cut(html, []byte("<"+element+">"))
	text, _, _ := bytes.Cut(rest, []byte("</"+element+">"))
	sum := sha256.Sum256(text)
	return "'sha256-" + base64.StdEncoding.EncodeToString(sum[:]) + "'"
}

func (h *handler) servePage(w http.ResponseWriter, _ *http.Request) {
	header := w.Header()
	header.Set("Content-Type", "text/html; charset=utf-8")
	header.Set("Content-Security-Policy", pagePolicy)
	header.Set("Cache-Control", "no-cache")
	header.Set("X-Content-Type-Options", "nosniff")
	header.Set("Referrer-Policy", "no-referrer")
	_, _ = w.Write(page)
}
