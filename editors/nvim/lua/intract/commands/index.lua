--- About the index.
local format = require('intract.format')
local page = require('intract.page')
local say = require('intract.say')
local servers = require('intract.servers')

local MOST_RESULTS = 50

---@param answer table of intract.indexStatus
---@return string[]
local function lines_of(answer)
  local lines = {} ---@type string[]
  for _, folder in ipairs(answer.folders) do
    lines[#lines + 1] = vim.fn.fnamemodify(folder.root, ':~')
    local columns = format.columns({
      { 'state', folder.state },
      { 'files', folder.files },
      { 'pieces', folder.chunks },
      { 'definitions', folder.symbols },
      { 'still to read', folder.queue > 0 and folder.queue or nil },
      { 'updated', format.age(folder.ageSeconds) },
      { 'on disk', format.size(folder.diskBytes) },
      { 'note', folder.message },
    })
    for _, line in ipairs(columns) do
      lines[#lines + 1] = '  ' .. line
    end
  end
  if answer.message ~= '' then
    lines[#lines + 1] = answer.message
  end
  return lines
end

--- Puts what was found into the quickfix list.
---
---@param query string
---@param results table[]
local function show(query, results)
  local items = vim.tbl_map(function(result)
    local first = vim.split(vim.trim(result.text), '\n', { plain = true })[1]
    return {
      filename = vim.fs.joinpath(result.root, result.path),
      lnum = result.start_line,
      end_lnum = result.end_line,
      text = result.symbol ~= '' and ('%s: %s'):format(result.symbol, first) or first,
    }
  end, results)
  vim.fn.setqflist({}, ' ', { title = 'intract: ' .. query, items = items })
  vim.cmd('botright copen')
end

---@param query string?
local function search(query)
  if not query or vim.trim(query) == '' then
    return
  end
  servers.execute('intract.searchWorkspace', { query = query, limit = MOST_RESULTS }, function(answer)
    if #answer.results > 0 then
      show(query, answer.results)
    else
      say.info(answer.message ~= '' and answer.message or 'nothing in the index fits.')
    end
  end)
end

---@type intract.Command
return {
  about = 'the index of the folders that are open',
  default = 'status',
  sub = {
    status = {
      about = 'show what is in it',
      server = 'intract.indexStatus',
      run = function()
        servers.execute('intract.indexStatus', nil, function(answer)
          page.open('intract: index', lines_of(answer))
        end)
      end,
    },
    reindex = {
      about = 'build it anew',
      server = 'intract.reindex',
      run = function()
        servers.execute('intract.reindex', nil, function(result)
          say.info(result.message)
        end)
      end,
    },
    search = {
      about = 'search it; what is found goes into the quickfix list',
      server = 'intract.searchWorkspace',
      run = function(arguments)
        if #arguments > 0 then
          search(table.concat(arguments, ' '))
        else
          vim.ui.input({ prompt = 'Search the index: ' }, search)
        end
      end,
    },
  },
}
