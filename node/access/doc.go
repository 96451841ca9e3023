// Package access says who asks a node over HTTP, what they may, and keeps a record of it.
//
// # Promise
//
// A request has one principal: the first that it shows of a client certificate, a bearer token and the page's cookie.
// What is shown and wrong ends the request; the next kind is not tried. Nothing that is compared with a secret is ever
// logged or answered.
//
//	certificate ─┐
//	bearer ──────┼─► Access.Identify ─► Principal{who, role, brands} ─► the table of routes (node/web) ─► answered
//	cookie ──────┘                                                                    │
//	                                                                                  └─► Audit: one line of JSON
//
// # Formats
//
// A token is dkl_<id>_<secret>: an id of 8 characters of a-z and 0-9, and 32 random bytes in base64url without padding
// (43 characters). A file of tokens has one JSON object per line:
//
//	{"id":"k3f9x2ab","hash":"<hexadecimal SHA-256 of the whole token>","role":"analyst","brands":["x"],
//	 "name":"grafana","created":"2026-11-29T09:00:00Z","expires":"2027-02-27T09:00:00Z"}
//
// in one line. SHA-256 is enough for 256 random bits: there is nothing to guess.
//
// # Invariants
//
//  1. A file of tokens counts whole or not at all: an unknown field or role, or an id that stands twice, refuses it.
//  2. A role has what every lesser role has. A role that is held to brands has no verbs.
//  3. A cookie counts for reading only, so that no page of another host can have a browser change anything.
//  4. The local token counts for this machine only, and never through a proxy.
//  5. A verb whose line cannot be written is not carried out.
//
// It imports none of ours.
package access
