// Package status holds what a node tells about itself and its shards. The shards fill it in, the node puts it together,
// and the HTTP handler, the metrics, the demo and the simulator read it. It is plain data: it does nothing.
package status
