// Package web answers a node's HTTP requests: health, metrics, API and page.
//
// # Promise
//
// Whatever a client sends, the answer is one that NewHandler documents, and nobody gets what their role does not reach.
// If the state cannot be read, the answer has status 500; the cause is written to the log only.
//
//	request ─► router: one row of the table (routes.go) ─► admit: who asks, role, brands, rate; or a problem
//	  GET /readyz, /api/v1/status ──► Source.Status ──────────────────────────► JSON
//	  GET /api/v1/analytics ────────► Source.Store(shard).Rollups, all shards ─► sums by day and dimension ─► JSON
//	  GET /api/v1/sessions/{id} ────► Source.Store(shard).Session ─────────────► JSON
//	  POST /api/v1/partitions/… ────► Commander ────────────────────────────────► JSON
//	  GET / ────────────────────────► index.html, which asks the two APIs each second
//
// # Invariants
//
//  1. Nothing but a command changes anything, and what is not in the table of routes is not answered. The source is one
//     node, or several in one process.
//  2. However many clients ask for analytics, the state is read at most once per second.
//  3. The page is one file and names no address except that of its own server.
//  4. JSON shows [] for a list without elements, and null for a figure that is not known here: the delays of a shard
//     that another node leads, and its lag while the leader has not told it. No such figure is ever 0. An integer
//     beyond 2^53-1, which a double does not hold, is a text.
//  5. What is wrong is told as application/problem+json. The paths from before /api/v1 answer as they did.
//  6. A route says in the table which role it takes and what a role gets that is held to brands; one that says nothing
//     is an administrator's, and closed to those.
//  7. What changes something, or shows one person, is done only if it stands in the audit log.
//  8. Whatever text gets into the page, no script of it runs: the policy names the page's own by its hash.
//
// # Limits
//
// Without authentication everybody who reaches the address is an administrator who can read everything. A dimension
// shows at most 50 values; the rest is joined under "(other)".
//
// # Rejected
//
// A framework for the page: it must work where there is no internet, and a build step for one page costs more than it
// saves. Figures from the sinks: they lag behind the state, and may be down.
package web
