package raftstore

import (
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strconv"
	"strings"

	"github.com/hashicorp/raft"
)

// member is a server of the first configuration.
type member struct {
	Name, ID, Addr string
}

// identity says who the folder's node is.
type identity struct {
	Format      int
	Name        string
	Incarnation string // 16 hexadecimal digits, drawn when the folder is created
	Cluster     string // 16 hexadecimal digits, "" if none is known
	Nodes       []string
	Shards      int
	Phase       phase
	Founders    []member `json:",omitempty"` // of phaseFounding
	VoidReason  string   `json:",omitempty"` // of phaseVoid
}

// serverID is the Raft server id: it never names two folders.
func (id *identity) serverID() raft.ServerID { return raft.ServerID(id.Name + "-" + id.Incarnation) }

// valid tells whether the identity is one that this package writes.
func (id *identity) valid() bool {
	alone := id.Phase == phaseNew || id.Phase == phaseVoid
	return isHex64(id.Incarnation) && (id.Cluster == "" && alone || isHex64(id.Cluster) &&
		(alone || id.Phase == phaseFounding || id.Phase == phaseJoining || id.Phase == phaseMember))
}

// nodeOf returns the node's name in a server id, "" if the id has none.
func nodeOf(id raft.ServerID) string {
	i := strings.LastIndexByte(string(id), '-')
	return string(id)[:max(i, 0)]
}

func hex64(v uint64) string { return fmt.Sprintf("%016x", v) }

func isHex64(s string) bool {
	v, err := strconv.ParseUint(s, 16, 64)
	return err == nil && s == hex64(v)
}

func nodeNames(nodes []Peer) []string {
	names := make([]string, len(nodes))
	for i, p := range nodes {
		names[i] = p.Name
	}
	return names
}

// loadIdentity reads the identity, or creates one for an empty folder. A void folder is emptied first; only the
// cluster's id is kept, since a node that has lost its promises must never found a second cluster.
func loadIdentity(o *Options) (*identity, error) {
	path := o.FS.PathJoin(o.Dir, identityName)
	var id identity
	err := readSealed(o.FS, path, &id)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		if err := makeDir(o.FS, o.Dir); err != nil {
			return nil, err
		}
		// A folder that was restored without its identity must not be taken for an empty one: its promises would be
		// lost.
		names, err := o.FS.List(o.Dir)
		if err != nil {
			return nil, fmt.Errorf("raftstore: list data folder: %w", err)
		}
		for _, n := range names {
			if isOurs(n) {
				return nil, fmt.Errorf("%w: %s has a %s but no identity; restore the file or empty the folder",
					ErrForeignFolder, o.Dir, n)
			}
		}
		return newIdentity(o, "")
	case err != nil:
		return nil, err
	}
	if err := checkIdentityFormat(id.Format); err != nil {
		return nil, err
	}
	switch {
	case !id.valid():
		return nil, fmt.Errorf("%w: %s says %+v", errSealBroken, path, id)
	case id.Name != o.Name:
		return nil, fmt.Errorf("%w: it belongs to node %q, this is %q", ErrForeignFolder, id.Name, o.Name)
	case id.Shards != o.Shards:
		return nil, fmt.Errorf("%w: it has %d shards, the configuration %d; the number is fixed at creation",
			ErrForeignFolder, id.Shards, o.Shards)
	case !slices.Equal(id.Nodes, nodeNames(o.Nodes)):
		return nil, fmt.Errorf("%w: its nodes are %v, the configuration's %v; membership is fixed at creation",
			ErrForeignFolder, id.Nodes, nodeNames(o.Nodes))
	}
	if id.Phase == phaseVoid {
		if len(o.Nodes) == 1 {
			return nil, singleNodeDamage(o.Dir, errors.New(id.VoidReason))
		}
		return emptyFolder(o, &id, id.VoidReason)
	}
	return &id, nil
}

// isOurs tells whether a name in the data folder is of something that this package owns, the identity aside.
func isOurs(name string) bool {
	return name == walDirName || name == snapshotDirName || strings.HasPrefix(name, shardPrefix)
}

func newIdentity(o *Options, cluster string) (*identity, error) {
	id := &identity{
		Format: identityFormat, Name: o.Name, Incarnation: hex64(o.Rand()), Cluster: cluster,
		Nodes: nodeNames(o.Nodes), Shards: o.Shards, Phase: phaseNew,
	}
	// gofail: var bugSameIncarnation struct{}
	// id.Incarnation = "00000000deadbeef"
	if cluster != "" {
		id.Phase = phaseJoining
	}
	return id, saveIdentity(o, id)
}

func saveIdentity(o *Options, id *identity) error {
	return writeSealed(o.FS, o.FS.PathJoin(o.Dir, identityName), id)
}

// emptyFolder gives up what the folder promised: it marks the folder as void, removes its content, and draws a new
// incarnation. After a crash in between, the next loadIdentity finishes it.
func emptyFolder(o *Options, id *identity, reason string) (*identity, error) {
	o.Logger.Error("EMPTYING THE DATA FOLDER: this node gives up what it promised and rejoins with a new incarnation",
		"dir", o.Dir, "former", id.serverID(), "reason", reason)
	void := *id
	void.Phase, void.VoidReason, void.Founders = phaseVoid, reason, nil
	if err := saveIdentity(o, &void); err != nil {
		return nil, err
	}
	names, err := o.FS.List(o.Dir)
	if err != nil {
		return nil, fmt.Errorf("raftstore: list data folder: %w", err)
	}
	for _, n := range names {
		if isOurs(n) {
			if err := removeAll(o.FS, o.FS.PathJoin(o.Dir, n)); err != nil {
				return nil, err
			}
		}
	}
	if err := syncDir(o.FS, o.Dir); err != nil {
		return nil, err
	}
	return newIdentity(o, id.Cluster)
}
