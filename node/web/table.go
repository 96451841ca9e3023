package web

import (
	"errors"
	"net/http"
	"time"

	"deckle/node/status"
)

// tablePatience is how long an answer may take: a restore reads the commits since the version.
const tablePatience = 10 * time.Minute

// TableVerb returns what an operation on a table is in the audit log and in the table of routes.
func TableVerb(op status.TableOp) string { return "tables." + string(op) }

// tableBody is the body of a verb of tables; forget-gaps takes the table only.
type tableBody struct {
	Table     string     `json:"table"`
	Version   *int64     `json:"version"`
	Timestamp *time.Time `json:"timestamp"`
	Rows      string     `json:"rows"`
	DryRun    bool       `json:"dry_run"`
}

func (h *handler) serveTableRestore(w http.ResponseWriter, r *http.Request) {
	h.serveTable(w, r, status.TableRestore)
}

func (h *handler) serveTableForget(w http.ResponseWriter, r *http.Request) {
	h.serveTable(w, r, status.TableForget)
}

func (h *handler) serveTable(w http.ResponseWriter, r *http.Request, op status.TableOp) {
	q, ok := accept(h, w, r, func() (*status.TableRequest, error) { return readTable(w, r, op) })
	if !ok {
		return
	}
	args := map[string]any{}
	if op == status.TableRestore {
		args["rows"], args["dry_run"] = q.Rows, q.DryRun
		if q.At.IsZero() {
			args["version"] = q.Version
		} else {
			args["timestamp"] = q.At.UTC().Format(time.RFC3339Nano)
		}
	}
	tell, ok := h.begin(w, r, TableVerb(op), "table "+q.Table, args)
	if !ok {
		return
	}
	// Where it cannot be set the server's own patience holds, and the client does not know what has come of it.
	_ = http.NewResponseController(w).SetWriteDeadline(h.now().Add(tablePatience))
	out, err := h.tables(r.Context(), q)
	if err == nil && out.Committed != nil {
		args["committed_version"] = *out.Committed
	}
	h.conclude(w, r, tell, out, err)
}

func readTable(w http.ResponseWriter, r *http.Request, op status.TableOp) (*status.TableRequest, error) {
	var b tableBody
	if err := readBody(w, r, maxCommand, &b); err != nil {
		return nil, err
	}
	q := &status.TableRequest{Op: op, Table: b.Table, Rows: b.Rows, DryRun: b.DryRun}
	switch {
	case b.Table != "events" && b.Table != "sessions":
		return nil, errors.New(`"table" is events or sessions`)
	case op == status.TableForget:
		if b.Version != nil || b.Timestamp != nil || b.Rows != "" || b.DryRun {
			return nil, errors.New(`forget-gaps takes "table" only`)
		}
		return q, nil
	case (b.Version == nil) == (b.Timestamp == nil):
		return nil, errors.New(`"version" or "timestamp" is needed, and not both`)
	case b.Version != nil && *b.Version < 0, b.Timestamp != nil && b.Timestamp.IsZero():
		return nil, errors.New(`"version" and "timestamp" name a version that there was`)
	case b.Rows != "again" && b.Rows != "gone":
		return nil, errors.New(`"rows" says what becomes of the rows that Deckle has written since: again or gone`)
	case b.Version != nil:
		q.Version = *b.Version
	default:
		q.At = *b.Timestamp
	}
	return q, nil
}
