// Package overlay switches on the failpoints of the module's sources (go.etcd.io/gofail) without touching the sources:
// it writes rewritten copies into a folder of its own, and an overlay that lets `go build` and `go test` read those
// instead.
//
//	node/shard/flusher.go                  // gofail: var nodeAckProposed struct{}   a comment in production
//	      │ gofail's rewriter
//	      ▼
//	DIR/src/node/shard/flusher.go          if … := __fp_nodeAckProposed.Acquire(); …
//	DIR/src/node/shard/flusher.fail.go     var __fp_nodeAckProposed = runtime.NewFailpoint("nodeAckProposed")
//	DIR/overlay.json                       {"Replace": {".../node/shard/flusher.go": "DIR/src/…", …}}
//
// # Promise
//
//  1. The tree is only read. A build without the overlay is the build without failpoints: they are comments.
//  2. Every non-test file of the module is read, except in testdata, in folders that begin with a dot or an underscore,
//     and in modules within the module.
//  3. Names are unique in the module, because gofail's runtime requires it. If two points have the same name, the error
//     names both files.
//
// # Writing one
//
// The comment is written where the point is. A line that is not a comment follows it, or lines of code as comments:
//
//	// gofail: var nodeCutApplied struct{}
//	in.kick()
//
//	// gofail: var bugDeltaNoTxn struct{}
//	// txns = nil
//	return encodeCommit(…)
//
// The first kind is for killing or stopping a process exactly there (sleep). The second kind plants a bug that a test
// must find; its names begin with "bug"; under another name it changes a setting or a rule for a test. gofail jumps
// over the code, so the code must not declare a variable at its outermost level. Two points that follow each other need
// an empty line between them.
//
// # At run time
//
// No point is on until it is armed: by the environment (GOFAIL_FAILPOINTS="name=term;…"), or, with
// GOFAIL_HTTP=host:port, by PUT /name with a term such as 1*sleep(20000), then GET /name/count and DELETE /name.
package overlay
