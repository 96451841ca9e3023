package node

import (
	"fmt"
	"log/slog"
)

// What a node needs of file descriptors. Each shard has its log's part, Pebble's tables (up to a thousand open ones as
// the state grows), and connections to Kafka, the other nodes and the sinks.
const (
	filesOfNode, filesOfShard         = 64, 32    // with fewer it ends before long
	filesOfNodeWell, filesOfShardWell = 256, 1000 // with these it never waits for one
)

// checkFiles raises the limit of open files to the hard limit, and refuses to start with fewer than a node needs.
func checkFiles(shards int, log *slog.Logger) error {
	limit, ok := raiseFiles()
	if !ok {
		return nil // the system has no such limit
	}
	warning, err := judgeFiles(limit, shards)
	if warning != "" {
		log.Warn(warning)
	}
	return err
}

// judgeFiles says what a limit of open files means for a node.
func judgeFiles(limit uint64, shards int) (warning string, err error) {
	const raise = "raise the hard limit (ulimit -Hn, LimitNOFILE= of systemd, --ulimit nofile= of a container)"
	least, well := uint64(filesOfNode+filesOfShard*shards), uint64(filesOfNodeWell+filesOfShardWell*shards)
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
