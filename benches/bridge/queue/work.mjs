// A job per changed school: read the row as it is now, write it to the target.
import { run } from "graphile-worker";
import pg from "pg";

const target = new pg.Pool({ connectionString: process.env.TARGET_URL, max: 10 });

const runner = await run({
  connectionString: process.env.SOURCE_URL,
  concurrency: 10,
  noHandleSignals: true,
  taskList: {
    async school({ id }, helpers) {
      const { rows } = await helpers.query("select name from schools where id = $1", [id]);
      if (rows.length === 0) return;
      const values = [id, rows[0].name];
      const updated = await target.query(
        "update salesforce.editor__c set name = $2, updatedat__c = localtimestamp where editoruuid__c = $1",
        values,
      );
      if (updated.rowCount === 0) {
        await target.query("insert into salesforce.editor__c (editoruuid__c, name) values ($1, $2)", values);
      }
    },
  },
});
await runner.promise;
