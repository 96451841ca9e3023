package node

import (
	"fmt"
	"log/slog"

	"deckle/node/config"
)

// What a node needs of file descriptors. Each shard has its log's part, Pebble's tables (up to a thousand open ones as
// the state grows), and connections to Kafka, the other nodes and the sinks. What strangers can hold is bounded, and
// counted here: a node whose descriptors they could take would end.
const (
	filesOfNode, filesOfShard         = 64, 32    // with fewer it ends before long
	filesOfNodeWell, filesOfShardWell = 256, 1000 // with these it never waits for one
	filesOfHandshakes                 = 96        // connections to the nodes' port that have not said yet who they are
	filesOfHTTP                       = 16        // the fewest that HTTP has
	connectionsMost, connectionsLeast = 512, 8    // of HTTP
)

// checkFiles raises the limit of open files to the hard limit, and refuses to start with fewer than a node needs. It
// returns how many connections HTTP may have.
func checkFiles(cfg *config.Config, log *slog.Logger) (connections int, err error) {
	limit, ok := raiseFiles()
	if !ok { // the system has no such limit
		return connectionsOf(1<<20, 0, cfg.HTTP.MaxConnections), nil
	}
	several := len(cfg.Cluster.Nodes) > 1
	warning, err := judgeFiles(limit, cfg.Cluster.Shards, several)
	if warning != "" {
		log.Warn(warning)
	}
	connections = connectionsOf(limit, leastFiles(cfg.Cluster.Shards, several), cfg.HTTP.MaxConnections)
	if most := cfg.HTTP.MaxConnections; most > connections {
		log.Warn("http.max_connections is more than the limit of open files leaves", "max_connections", most,
			"connections", connections)
	}
	return connections, err
}

// leastFiles is how many files a node must be able to open.
func leastFiles(shards int, several bool) uint64 {
	least := filesOfNode + filesOfHTTP + filesOfShard*shards
	if several {
		least += filesOfHandshakes
	}
	return uint64(least)
}

// connectionsOf returns how many connections HTTP may have: a quarter of what a limit of open files leaves and, if
// somebody wants a number, as many as that, up to a half.
func connectionsOf(limit, least uint64, wanted int) int {
	left := int(min(max(limit, least)-least, 1<<20))
	if wanted > 0 {
		return min(wanted, max(left/2, connectionsLeast))
	}
	return min(max(left/4, connectionsLeast), connectionsMost)
}

// judgeFiles says what a limit of open files means for a node.
func judgeFiles(limit uint64, shards int, several bool) (warning string, err error) {
	const raise = "raise the hard limit (ulimit -Hn, LimitNOFILE= of systemd, --ulimit nofile= of a container)"
	least, well := leastFiles(shards, several), uint64(filesOfNodeWell+filesOfShardWell*shards)
	switch {
	case limit < least:
		return "", fmt.Errorf("node: the process may open %d files, and a node of %d shards needs at least %d: "+
			"%s to %d", limit, shards, least, raise, well)
	case limit < well:
		return fmt.Sprintf("the process may open %d files; a node of %d shards may come to need %d: %s", limit, shards,
			well, raise), nil
	}
	return "", nil
}
