//go:build cgo && linux

package main

import (
	"fmt"
	"os"
	"strings"

	"github.com/ClickHouse/ch-go/proto"

	model "deckle/sim/testworld/clickhouse"
)

// insert takes the blocks of an INSERT from the client into a spool file, and gives them to the engine as one query.
func (f *front) insert(s *model.Session, q *proto.Query, target insertInto) error {
	header, err := f.header(s, target)
	if err != nil {
		return err // the client has not sent a block yet, because it waits for the header
	}
	if err := s.Send(proto.Block{Columns: len(header)}, header); err != nil {
		return err
	}
	spool, err := os.CreateTemp(f.spool, "insert-*.native")
	if err != nil {
		return err
	}
	defer os.Remove(spool.Name())
	defer spool.Close()

	rows := 0
	var failed error // an error of ours is sent only when the client has sent its last block
	var buf proto.Buffer
	for {
		b, res, err := s.NextBlock()
		if err != nil {
			return err
		}
		if b.End() {
			break
		}
		if failed != nil || b.Rows == 0 {
			continue
		}
		rows += b.Rows
		buf.Reset()
		if failed = b.EncodeRawBlock(&buf, rawRevision, inputs(res)); failed == nil {
			_, failed = spool.Write(buf.Buf)
		}
	}
	if failed != nil {
		return queryError(fmt.Sprintf("Code: 1000. DB::Exception: chfront: %v", failed))
	}
	if rows == 0 {
		return nil
	}
	_, err = f.engine(s, "Null", fmt.Sprintf("INSERT INTO %s%s%s SELECT * FROM file(%s, 'Native')",
		target.table, target.columns, settingsClause(q.Settings), quoteText(spool.Name())))
	return err
}

// header returns the empty columns that an INSERT must fill, with the types of the table.
func (f *front) header(s *model.Session, target insertInto) ([]proto.InputColumn, error) {
	columns := "*"
	if target.columns != "" {
		columns = strings.TrimSuffix(strings.TrimPrefix(strings.TrimSpace(target.columns), "("), ")")
	}
	desc, err := f.engine(s, "TabSeparatedRaw", "DESCRIBE TABLE (SELECT "+columns+" FROM "+target.table+")")
	if err != nil {
		return nil, err
	}
	var header []proto.InputColumn
	for line := range strings.Lines(string(desc)) {
		f := strings.Split(strings.TrimSuffix(line, "\n"), "\t")
		if len(f) < 2 {
			continue
		}
		var c proto.ColAuto
		if err := c.Infer(proto.ColumnType(f[1])); err != nil {
			return nil, queryError(fmt.Sprintf("Code: 50. DB::Exception: chfront does not know column %s %s: %v",
				f[0], f[1], err))
		}
		header = append(header, proto.InputColumn{Name: f[0], Data: c.Data.(proto.ColInput)})
	}
	return header, nil
}
