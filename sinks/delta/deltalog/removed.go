package deltalog

import (
	"path"
	"regexp"
)

// A RESTORE by another tool takes rows away that Deckle has written, and keeps the txns, so that nobody would write
// them again. Whether they come back or are given up an operator says; until then revisions wait, because what they
// write stands on the files that are gone. Two txns that name no plan tell every node where the table stands: up to
// which version such RESTOREs have been noticed, and up to which one it is settled what becomes of the rows.
//
// Each commit of this package carries the first of them if it is built on a version with a RESTORE that the txn does
// not tell of. So a node that reads the log from a checkpoint looks for a RESTORE only from there back to the newest
// commit of this package.

// NoticedID is the application id of the txn whose version is the newest version of a table in which another tool's
// RESTORE has taken files of Deckle's away.
func NoticedID(clusterID, pipeline string) string {
	return clusterID + "/" + pipeline + "/removed.noticed"
}

// AcceptedID is the application id of the txn that says up to which version it is settled what becomes of the rows
// that such RESTOREs took away.
func AcceptedID(clusterID, pipeline string) string {
	return clusterID + "/" + pipeline + "/removed.accepted"
}

// ownNames are those that Deckle gives to data files.
var ownNames = regexp.MustCompile(`^part-(\d{5,}-\d+|compact|shared)-[0-9a-f]{16}\.parquet$`)

// OwnName reports whether Deckle has given a data file its name.
func OwnName(logPath string) bool { return ownNames.MatchString(path.Base(logPath)) }
