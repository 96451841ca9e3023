package deltalog

import (
	"context"
	"maps"
)

// GiveVectors gives the table deletion vectors by a commit of its own, unless somebody has taken them away: the
// feature, the property, or both are gone although Deckle has given them, or the property says no. It returns whether
// files may be given vectors now.
func (l *Log) GiveVectors(ctx context.Context) (may bool, err error) {
	taken := false
	if l.View(func(s *Snapshot) { may, taken = s.Vectors(), s.vectorsTaken() }); may || taken {
		return may, nil
	}
	version, err := l.commitAlone(ctx, func() (*lone, error) {
		if may = l.snap.Vectors(); may || l.snap.vectorsTaken() {
			return nil, nil
		}
		if err := l.snap.checkTable(l.root, l.opts.Create); err != nil {
			return nil, err
		}
		meta := *l.snap.Metadata
		meta.Configuration = maps.Clone(meta.Configuration)
		if meta.Configuration == nil {
			meta.Configuration = map[string]string{}
		}
		meta.Configuration[configVectors], meta.Configuration[ConfigVectorsGiven] = "true", "true"
		read := l.snap.Version
		info := &CommitInfo{Timestamp: l.opts.Now().UnixMilli(), Operation: "SET TBLPROPERTIES",
			OperationParameters: map[string]string{"properties": `{"` + configVectors + `":"true"}`},
			ReadVersion:         &read, EngineInfo: engineInfo, Node: l.opts.Node}
		return &lone{info: info, protocol: l.snap.Protocol.WithVectors(), meta: &meta,
			txns: l.snap.notices(info.Timestamp)}, nil
	})
	if version >= 0 {
		may = true
		l.opts.Logger.Info("delta: the table has deletion vectors from now on", "table", l.name(), "version", version)
	}
	return may && err == nil, err
}
