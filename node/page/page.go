// Package page holds the node's page: one HTML file with its style and its script, without anything from elsewhere.
package page

import _ "embed"

// HTML is the page. It reads /api/status and /api/analytics of the server it came from each second.
//
//go:embed index.html
var HTML []byte
