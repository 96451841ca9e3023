package clickhouse

import (
	"context"
	"net"
	"strings"
	"testing"

	"github.com/ClickHouse/ch-go"
	"github.com/ClickHouse/ch-go/proto"
)

// A block larger than what a client takes as one compressed frame arrives all the same, as it does from a server.
func TestLargeBlock(t *testing.T) {
	const rows, size = 40, 4 << 20 // more than the 128 MiB of a frame
	client, server := net.Pipe()
	served := make(chan error, 1)
	go func() {
		served <- (&Session{Name: "test", User: "u", Password: "p", Execute: func(s *Session, _ *proto.Query) error {
			var c proto.ColStr
			for range rows {
				c.Append(strings.Repeat("x", size))
			}
			return s.Send(proto.Block{Columns: 1, Rows: rows}, []proto.InputColumn{{Name: "c", Data: &c}})
		}}).Serve(server)
		_ = server.Close()
	}()
	ctx := context.Background()
	conn, err := ch.Connect(ctx, client, ch.Options{User: "u", Password: "p", Compression: ch.CompressionLZ4})
	if err != nil {
		t.Fatal(err)
	}
	var c proto.ColStr
	got := 0
	err = conn.Do(ctx, ch.Query{Body: "SELECT c FROM t", Result: proto.Results{{Name: "c", Data: &c}},
		OnResult: func(context.Context, proto.Block) error {
			for i := range c.Rows() {
				if len(c.RowBytes(i)) != size {
					t.Errorf("row %d has %d bytes", i, len(c.RowBytes(i)))
				}
				got++
			}
			return nil
		}})
	if err != nil || got != rows {
		t.Errorf("%d rows, %v", got, err)
	}
	_ = conn.Close()
	<-served // how it ends when the client leaves does not matter here
}
