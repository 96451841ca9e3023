//go:build cgo && linux

package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"os"
	"strings"
	"time"

	"github.com/ClickHouse/ch-go/proto"

	model "deckle/sim/testworld/clickhouse"
)

// rawRevision is below the revision of FeatureBlockInfo, which EncodeRawBlock uses, and of any other feature: it is the
// Native format in files.
const rawRevision = 54449

// front answers the queries of all connections. The protocol itself is that of sim/testworld/clickhouse.
type front struct {
	eng            *engine
	spool          string
	user, password string
	passwordFile   string // if set, it has the password
	verbose        bool
}

func (f *front) serve(c net.Conn) error {
	password := f.password
	if f.passwordFile != "" {
		b, err := os.ReadFile(f.passwordFile)
		if err != nil {
			return err
		}
		password = string(b)
	}
	return (&model.Session{
		Name: "chfront", User: f.user, Password: password,
		Execute: func(s *model.Session, q *proto.Query) error {
			start := time.Now()
			err := f.execute(s, q)
			if f.verbose {
				log.Printf("%s %s %q settings=%v err=%v",
					c.RemoteAddr(), time.Since(start).Round(time.Millisecond), firstLine(q.Body), q.Settings, err)
			}
			return err
		},
	}).Serve(c)
}

// queryError is an exception for the client: the engine's text, which begins with its code.
func queryError(text string) error { return &model.Exception{Code: codeOf(text), Text: text} }

func (f *front) execute(s *model.Session, q *proto.Query) error {
	if target, ok := insertTarget(q.Body); ok {
		return f.insert(s, q, target)
	}
	out, err := f.engine(s, "Native", withSettings(q.Body, q.Settings))
	if err != nil {
		return err
	}
	r := proto.NewReader(bytes.NewReader(out))
	for {
		var b proto.Block
		var res proto.Results
		switch err := b.DecodeRawBlock(r, rawRevision, res.Auto()); {
		case errors.Is(err, io.EOF):
			return nil
		case err != nil:
			return queryError(fmt.Sprintf("Code: 50. DB::Exception: chfront cannot pass this result on: %v", err))
		}
		if err := s.Send(b, inputs(res)); err != nil {
			return err
		}
	}
}

func (f *front) engine(s *model.Session, format string, queries ...string) ([]byte, error) {
	out, err := f.eng.run(s.Database(), format, queries...)
	if err != nil {
		return nil, queryError(err.Error())
	}
	return out, nil
}

func inputs(res proto.Results) []proto.InputColumn {
	in := make([]proto.InputColumn, 0, len(res))
	for _, c := range res {
		d := c.Data
		if a, ok := d.(*proto.ColAuto); ok {
			d = a.Data
		}
		in = append(in, proto.InputColumn{Name: c.Name, Data: d.(proto.ColInput)})
	}
	return in
}

func firstLine(s string) string {
	s = strings.Join(strings.Fields(s), " ")
	return s[:min(len(s), 160)]
}
