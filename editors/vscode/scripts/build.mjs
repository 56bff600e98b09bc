// Bundles the extension into dist/: extension.cjs, which VS Code loads at its start, and client.cjs, which holds the
// language client and is loaded after that. usage: node scripts/build.mjs
import { build } from 'esbuild';
import { fileURLToPath } from 'node:url';

const common = {
    absWorkingDir: fileURLToPath(new URL('..', import.meta.url)),
    bundle: true,
    platform: 'node',
    format: 'cjs',
    target: 'node20',
    external: ['vscode'],
    minify: true,
    logLevel: 'warning',
};

await build({ ...common, entryPoints: ['src/client.ts'], outfile: 'dist/client.cjs' });
await build({
    ...common,
    entryPoints: ['src/extension.ts'],
    outfile: 'dist/extension.cjs',
    // An import() becomes a require() at that moment: `vscode` can only be required.
    supported: { 'dynamic-import': false },
    plugins: [{
        name: 'client-apart',
        setup: ({ onResolve }) => onResolve({ filter: /\/client\.ts$/ }, () => ({ path: './client.cjs', external: true })),
    }],
    // Taken before anything is loaded, so that the time of activation counts the loading too.
    banner: { js: 'var intractLoadedAt = performance.now();' },
});
