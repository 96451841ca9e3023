// Package trust reads the files by which a process proves who it is and whom it believes (certificates, keys, CA
// bundles, secrets), and reads them again when they change. It decides nothing about roles.
//
//	file ──► read at the start: good, or an error
//	          │
//	          ▼ every 10 s, and with Look
//	another SHA-256? ── no ─► nothing
//	          │ yes
//	          ▼
//	   parses? pair fits? ── no ─► what was in use stays; Unusable after 60 s
//	          │ yes
//	          ▼
//	      in use, Changed
//
// # Promise
//
// What Value, Client and Server return is the newest content that could be used as a whole, at most ten seconds after
// the file had it, and never a mixture: a certificate comes with its key or not at all. A process that has started is
// not ended by what happens to a file.
//
// # Invariants
//
//  1. Another content is what decides, neither a time nor an inode: a Kubernetes volume swaps a symbolic link, an
//     editor renames, a copy keeps times.
//  2. A TLS session is never resumed: Go does not verify the chain of a resumed session again (golang/go#77217), so
//     that a CA that was taken away would go on. Servers give no tickets, clients have no cache, and checks of ours are
//     VerifyConnection, which is called for resumed sessions, too.
//  3. A secret prints as ***, and no error text of this package has the content of a file.
//  4. What closes (Closing) is told that it has nothing once its file has been unusable for 60 s: who deletes it means
//     that. Everything else keeps what it has.
//
// # Rejected
//
// Watching by inotify: volumes of containers and network file systems do not tell, and ten seconds are soon enough. One
// tls.Config for ever with callbacks: for a client it would have to switch Go's verification off and do it again by
// hand, without knowing the name of an IP address that was dialled.
package trust
