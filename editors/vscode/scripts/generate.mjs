// Writes what package.json and README.md say of settings and commands.
// usage: node scripts/generate.mjs SCHEMA.json [--check]
// SCHEMA.json is what `intract-lsp config schema` prints; --check only says whether something would change (exit 1).
import fs from 'node:fs';
import { COMMANDS } from '../src/commands/table.ts';

const packageFile = new URL('../package.json', import.meta.url);
const readmeFile = new URL('../README.md', import.meta.url);

/** Return one setting in VS Code's form. */
function property(schema) {
    const { type, enum: choices, default: value, minimum, maximum, exclusiveMinimum, exclusiveMaximum, items, minLength, description } = schema;
    const kept = { type, enum: choices, items, default: value, minimum, maximum, exclusiveMinimum, exclusiveMaximum, minLength };
    if (kept.type === undefined) throw new Error(`a setting without a type: ${JSON.stringify(schema)}`);
    kept.markdownDescription = (description ?? '').replace(/\s+/g, ' ').trim();
    return Object.fromEntries(Object.entries(kept).filter(([, part]) => part !== undefined));
}

/** Return the sections of the server's settings, as VS Code shows them. */
function sections(schema) {
    return Object.entries(schema.properties).map(([name, reference]) => {
        const section = schema.$defs[(reference.$ref ?? reference.allOf[0].$ref).split('/').pop()];
        const properties = Object.fromEntries(
            Object.entries(section.properties).map(([key, value]) => [`intract.${name}.${key}`, property(value)]),
        );
        return { title: name[0].toUpperCase() + name.slice(1), properties };
    });
}

function commands() {
    return COMMANDS.map(({ id, title, icon }) => ({
        command: id,
        title,
        category: 'Intract',
        ...(icon && { icon: `$(${icon})` }),
    }));
}

/** Return when the palette offers a command, or nothing where it always does. */
function offered({ id, server, training, explains }) {
    if (training) return `intract.hasTraining && isWorkspaceTrusted${id === 'intract.cancelFineTune' ? ' && intract.training' : ''}`;
    return server && !explains ? 'intract.running' : undefined;
}

function menus() {
    const item = (id, group, when = '') => ({ command: id, when: `view == intract.adapters${when}`, group });
    const adapter = (id, group) => ({ command: id, when: 'view == intract.adapters && viewItem =~ /^adapter/', group });
    return {
        commandPalette: COMMANDS.flatMap((entry) => (offered(entry) ? [{ command: entry.id, when: offered(entry) }] : [])),
        'view/title': [item('intract.startFineTune', 'navigation@1', ' && !intract.training'),
            item('intract.cancelFineTune', 'navigation@1', ' && intract.training'),
            item('intract.refreshAdapters', 'navigation@3'), item('intract.rollBackAdapter', 'more@1'),
            item('intract.forgetFile', 'more@2')],
        'view/item/context': [adapter('intract.promoteAdapter', 'inline@1'), adapter('intract.exportAdapter', 'more@1'),
            adapter('intract.removeAdapter', 'more@2'),
            { command: 'intract.openReport', when: 'view == intract.adapters && viewItem == run', group: 'inline@1' }],
    };
}

function table(configuration) {
    const cell = (text) => text.replaceAll('|', '\\|');
    const rows = configuration.flatMap(({ properties }) =>
        Object.entries(properties).map(([name, value]) =>
            `| \`${name}\` | \`${cell(JSON.stringify(value.default))}\` | ${cell(value.markdownDescription)} |`));
    return ['| setting | default | what it does |', '|---|---|---|', ...rows].join('\n');
}

const [schemaFile, flag] = process.argv.slice(2);
const schema = JSON.parse(fs.readFileSync(schemaFile, 'utf8'));
const old = fs.readFileSync(packageFile, 'utf8');
const manifest = JSON.parse(old);
manifest.contributes.commands = commands();
manifest.contributes.menus = menus();
manifest.contributes.configuration = [manifest.contributes.configuration[0], ...sections(schema)];
const texts = [[packageFile, old, `${JSON.stringify(manifest, null, 2)}\n`]];
const readme = fs.readFileSync(readmeFile, 'utf8');
const marks = /(<!-- settings: made by scripts\/generate\.mjs -->\n)[^]*(<!-- settings end -->)/;
if (!marks.test(readme)) throw new Error('README.md lacks the marks of its table of settings');
texts.push([readmeFile, readme, readme.replace(marks, (_, from, to) => `${from}${table(manifest.contributes.configuration)}\n${to}`)]);

const changed = texts.filter(([, before, after]) => before !== after);
for (const [file, , after] of changed) {
    if (flag === '--check') console.error(`${file.pathname} is not what scripts/generate.mjs makes; run it.`);
    else fs.writeFileSync(file, after);
}
process.exitCode = flag === '--check' && changed.length ? 1 : 0;
